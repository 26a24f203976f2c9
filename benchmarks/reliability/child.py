"""Commands as processes: each is a fork of this process, which has imported the code and has not used it.

A fork starts in milliseconds, and imports nothing when it is killed at a random time. This process must never call
Polars or a learner itself: a fork has none of the threads of its parent.
"""

import ctypes
import importlib
import json
import os
import pkgutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import tidemill.cli.main

_LIMIT = 600.0
_LIBRARIES = (
    "cloudpickle",
    "croniter",
    "deltalake",
    "jinja2",
    "lightgbm",
    "psycopg",
    "pyarrow",
    "sklearn.tree",
    "typer",
)


class Ended(NamedTuple):
    """A process that exited or was killed: its exit code (-9 for SIGKILL), and what it printed."""

    code: int
    out: str
    err: str

    @property
    def text(self) -> str:
        """Return everything that it printed."""
        return self.out + self.err

    @property
    def summary(self) -> str:
        """Return its exit code and its last line."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()] or ["no output"]
        return f"exit {self.code}: {lines[-1][:300]}"


class Child:
    """A running process in a session of its own; its output goes to files in `logs`."""

    def __init__(
        self, work: Callable[[], int], folder: Path, logs: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        stem = f"{time.monotonic_ns()}"
        self._out, self._err = logs / f"{stem}.out", logs / f"{stem}.err"
        self._out.touch()
        self._err.touch()
        self.started = time.monotonic()
        self.code: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.process = os.fork()
        if self.process == 0:
            self._run(work, folder, environment or {})

    def _run(self, work: Callable[[], int], folder: Path, environment: Mapping[str, str]) -> None:
        code = 1
        try:
            os.setsid()
            _end_with_parent()
            for path, descriptor in ((os.devnull, 0), (self._out, 1), (self._err, 2)):
                os.dup2(os.open(path, os.O_RDWR | os.O_APPEND), descriptor)
            sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # as on a terminal
            os.chdir(folder)
            os.environ.update(environment)
            os.environ["PWD"] = str(folder)
            code = work()
        except Exception:  # noqa: BLE001 - the fork must end here, whatever happens
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    @property
    def out(self) -> str:
        """Return what it has printed on stdout until now."""
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        """Return what it has printed on stderr until now."""
        return self._err.read_text(errors="replace")

    def is_running(self) -> bool:
        """Return whether the process runs."""
        if self.code is None:
            process, status = os.waitpid(self.process, os.WNOHANG)
            if process:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is None

    def wait(self, limit: float = _LIMIT) -> Ended:
        """Wait until it ends; after `limit` seconds, kill it."""
        deadline = time.monotonic() + limit
        while self.is_running():
            if time.monotonic() > deadline:
                self.kill(group=True)
                return Ended(-1, self.out, f"{self.err}\nit did not end within {limit:.0f} s")
            time.sleep(0.002)
        assert self.code is not None
        return Ended(self.code, self.out, self.err)

    def kill(self, *, group: bool) -> Ended:
        """Kill the process with SIGKILL, or with all processes that it started, and wait for it."""
        if self.is_running():
            os.kill(self.process, signal.SIGKILL)
        if group:
            self.end_group()
        while self.is_running():
            time.sleep(0.001)
        assert self.code is not None
        return Ended(self.code, self.out, self.err)

    def end_group(self) -> None:
        """Kill all processes that it started and that are still in its session's group."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process, signal.SIGKILL)

    def stop(self, limit: float = 60) -> Ended:
        """Send SIGTERM, and wait for it."""
        if self.is_running():
            os.kill(self.process, signal.SIGTERM)
        return self.wait(limit)


def import_all() -> None:
    """Import all of Tidemill and the libraries that its commands need, so that each fork has them."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a pool of threads that starts now is missing in each fork
    names = [module.name for module in pkgutil.walk_packages(tidemill.__path__, "tidemill.")]
    for name in (*_LIBRARIES, *names):
        if not name.endswith("__main__"):
            with suppress(ImportError):  # of an extra that is not installed
                importlib.import_module(name)


def _end_with_parent() -> None:
    """Let the kernel kill this process when the benchmark ends, however it ends (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def start(folder: Path, *words: str, logs: Path, environment: Mapping[str, str] | None = None) -> Child:
    """Start a command in a folder."""
    return Child(lambda: tidemill.cli.main.main(list(words)), folder, logs, environment)


def ask(folder: Path, question: Callable[[], Any], *, logs: Path, environment: Mapping[str, str] | None = None) -> Any:
    """Return the value of a function, called in a process of its own.

    Raises
    ------
    RuntimeError
        if it raised an error.
    """

    def work() -> int:
        print(json.dumps(question()))
        return 0

    ended = Child(work, folder, logs, environment).wait()
    if ended.code:
        raise RuntimeError(ended.summary)
    return json.loads(ended.out.splitlines()[-1])
