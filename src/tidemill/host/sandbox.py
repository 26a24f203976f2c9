"""Runs code of other people in processes with limits, without secrets, and ends all of them afterwards."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import msgspec

from tidemill.errors import TidemillError

Ending = Literal["exit", "signal", "timeout", "memory"]
_PASSED_VARIABLES = ("PATH", "LANG", "LC_ALL", "TZ")
_PROGRAM = str(Path(__file__).with_name("sandbox_process.py"))
_MAX_LOG = 20_000_000
_MAX_ECHO = 2_000_000
_GRACE_SECONDS = 30.0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """The most time and memory of a command and of all processes that it starts."""

    seconds: float
    memory_mb: int


class SandboxResult(msgspec.Struct, frozen=True, kw_only=True):
    """How a command ended.

    Attributes
    ----------
    ending
        Why it ended: its own `exit`, a `signal`, the `timeout`, or the limit of its `memory`.
    status
        The exit status, or the number of the signal.
    memory_limit
        How the memory was limited: by a `cgroup` (all processes together), by `rlimit` (the address space of each), or
        not at all (empty).
    leftover
        The number of processes that were still running when the command ended.
    """

    ending: Ending
    status: int
    seconds: float
    memory_limit: str = ""
    leftover: int = 0

    @property
    def succeeded(self) -> bool:
        """Return whether the command exited with the status 0."""
        return self.ending == "exit" and self.status == 0

    def describe(self, limits: Limits) -> str:
        """Return in words how it ended."""
        if self.ending == "timeout":
            return f"did not end within {limits.seconds:g} s"
        if self.ending == "memory":
            return f"used more than {limits.memory_mb} MB of memory"
        if self.ending == "signal":
            return f"was ended by the signal {signal.Signals(self.status).name}"
        return f"ended with the exit status {self.status}"


def run_sandboxed(
    command: Sequence[str],
    folder: Path,
    limits: Limits,
    *,
    home: Path,
    log: Path,
    variables: Mapping[str, str] | None = None,
    echo: Callable[[str], Any] | None = None,
) -> SandboxResult:
    """Run a command in a folder, and return when it and every process that it started have ended.

    The command gets only the variables `PATH`, `LANG`, `LC_ALL` and `TZ` of this process, and `variables`: no address
    of a store, token or key. `home` is its home folder and contains its temporary files. Its output is written to
    `log`, and each line is passed to `echo` as it appears.

    A supervising process adopts all descendants, also those that fork and leave the session, and kills them at the
    end, at the time limit, and if this process dies.

    Raises
    ------
    TidemillError
        if the command cannot be started.
    """
    temporary = home / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    passed = {name: os.environ[name] for name in _PASSED_VARIABLES if name in os.environ}
    environment = passed | {"HOME": str(home), "TMPDIR": str(temporary), "PYTHONNOUSERSITE": "1", **(variables or {})}
    start = time.monotonic()
    request = {
        "command": list(command),
        "seconds": limits.seconds,
        "memory_mb": limits.memory_mb,
        "parent": os.getpid(),
    }
    reading, writing = os.pipe()
    try:
        supervisor = subprocess.Popen(
            [sys.executable, "-I", "-S", _PROGRAM, str(writing), msgspec.json.encode(request).decode()],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(writing,),
            start_new_session=True,
        )
    except OSError as error:
        os.close(reading)
        raise TidemillError(
            f"no process can be started in {folder}: {error.strerror}", "free some memory or disk, then try again"
        ) from None
    finally:
        os.close(writing)
    try:
        _follow(supervisor, log, echo)
        supervisor.wait()
        with os.fdopen(reading, "rb") as pipe:
            result = msgspec.json.decode(pipe.read() or b'{"error": "its supervisor died"}')
    finally:
        _stop(supervisor)
    if result.get("error"):
        raise TidemillError(f"{command[0]} cannot be started: {result['error']}", "check that the file exists")
    return msgspec.convert({**result, "seconds": time.monotonic() - start}, SandboxResult)


def _follow(supervisor: "subprocess.Popen[bytes]", log: Path, echo: Callable[[str], Any] | None) -> None:
    """Write the output to the log and pass it on, until all processes have closed it."""
    assert supervisor.stdout is not None
    written = echoed = 0
    with log.open("ab") as file, supervisor.stdout as output:
        for line in output:
            if written < _MAX_LOG:
                file.write(line[: _MAX_LOG - written])
                file.flush()
                written += len(line)
            if echo is not None and echoed < _MAX_ECHO:
                text = line.decode(errors="replace")
                echo(text)
                echoed += len(text)


def _stop(supervisor: "subprocess.Popen[bytes]") -> None:
    """End the supervisor, which then ends the other processes."""
    if supervisor.poll() is not None:
        return
    with suppress(ProcessLookupError):
        supervisor.terminate()
    try:
        supervisor.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()
