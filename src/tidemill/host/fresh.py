"""Fresh processes that have only what a lock names: where a package shows that it works without its maker."""

import contextlib
import hashlib
import os
import platform
import subprocess
import sys
import tempfile
import threading
import weakref
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tidemill.core.probe import PackageProbe
from tidemill.errors import TidemillError
from tidemill.host.uv import build

_LOCK = "requirements.txt"
# No address, token or key of this process is a package's business.
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
# A single row gains nothing from threads, and to start them takes longer than to answer.
_FEW_THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_PROGRAM = str(Path(__file__).with_name("trying.py"))


class FreshProcesses:
    """Tries packages out, each in a process of its own; `folder` keeps the environments that were built for them.

    For each lock one process waits with its packages imported, and each package is asked in a fork of it. Where all
    packages of a lock are here in the same versions, that process has the present interpreter and is shown no other
    package; else the environment is built by uv, and kept.
    """

    writable: ClassVar[bool] = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._waiting: dict[tuple[int, str, bool], subprocess.Popen[str]] = {}
        weakref.finalize(self, _end, self._waiting)

    def try_out(
        self, files: dict[str, bytes], rows: list[dict[str, Any]], warm: tuple[str, ...] = (), *, strict: bool = False
    ) -> PackageProbe:
        """Ask the package with these files for rows there; `strict` builds the environment from the lock itself."""
        lock = tuple(files[_LOCK].decode().split())
        size = sum(map(len, files.values())) / (1 << 20)
        absent = _absent(lock)
        place, interpreter, warning = "a fresh process with the packages of its lock", sys.executable, ""
        built = strict or bool(absent)
        if built:
            try:
                interpreter, place = str(self._built(lock)), "an environment built from its lock"
            except TidemillError as refused:
                warning = f"the environment of its lock cannot be built: {refused.problem}"
                if strict:
                    return PackageProbe(where="nowhere", error=warning, size_mb=size)
                built = False
                place, warning = "a fresh process here", f"{warning}; here differ {', '.join(absent)}"
        with tempfile.TemporaryDirectory(prefix="tidemill-") as folder, self._lock:
            for name, content in files.items():
                file = Path(folder) / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            told = self._asked(interpreter, lock, built, {"folder": folder, "rows": rows, "warm": list(warm)})
        return msgspec.structs.replace(told, where=place, warning=warning, size_mb=size)

    def _asked(self, interpreter: str, lock: tuple[str, ...], built: bool, request: dict[str, Any]) -> PackageProbe:
        # A process that was forked has the pipes of its parent: it must not talk into them.
        key = os.getpid(), "\n".join(lock), built
        for _ in range(2):
            process = self._waiting.get(key)
            if process is None or process.poll() is not None:
                names = [] if built else sorted(_modules(lock)) or ["-"]
                # -I: neither the project's folder nor the user's own packages are there.
                process = self._waiting[key] = subprocess.Popen(
                    [interpreter, "-I", _PROGRAM, *names],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                    encoding="utf-8",
                    env={name: os.environ[name] for name in _KEPT if name in os.environ} | _FEW_THREADS,
                )
            assert process.stdin is not None
            assert process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.write(msgspec.json.encode(request).decode() + "\n")
                process.stdin.flush()
                line = process.stdout.readline()
                if line:
                    return msgspec.json.decode(line, type=_Told).trial()
        return PackageProbe(where="", error="the process in which it is tried out ends at once")

    def _built(self, lock: tuple[str, ...]) -> Path:
        """The interpreter of the environment of a lock, which is built once for each workspace."""
        python = platform.python_version()
        folder = self._folder / hashlib.sha256("\n".join((python, *lock)).encode()).hexdigest()[:32]
        interpreter = folder / "bin" / "python"
        if interpreter.exists():
            return interpreter
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="draft-", ignore_cleanup_errors=True) as draft:
            build(python, list(lock), Path(draft) / "environment")
            with contextlib.suppress(OSError):  # another process was quicker
                (Path(draft) / "environment").rename(folder)
        return interpreter


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """An answer of the process; a number that is none comes as null."""

    scores: list[Any] = []
    same_twice: bool = True
    latency_ms: float = 0.0
    memory_mb: float = 0.0
    error: str = ""
    missing: str = ""

    def trial(self) -> PackageProbe:
        return PackageProbe(where="", **msgspec.structs.asdict(self))


def _end(waiting: dict[tuple[int, str, bool], "subprocess.Popen[str]"]) -> None:
    for (process_id, *_), process in waiting.items():
        if process_id == os.getpid():
            process.kill()
            process.communicate()


def _absent(lock: tuple[str, ...]) -> list[str]:
    """The packages of a lock that are not here in that version."""
    return [one for one in lock if _version(one.partition("==")[0]) != one.partition("==")[2]]


@cache
def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


@cache
def _modules(lock: tuple[str, ...]) -> frozenset[str]:
    """The top-level modules that the packages of a lock bring."""
    found: set[str] = set()
    for line in lock:
        try:
            record = distribution(line.partition("==")[0]).read_text("RECORD") or ""
        except PackageNotFoundError:
            continue
        tops = {row.partition(",")[0].partition("/")[0] for row in record.splitlines()}
        found |= {top.partition(".")[0] for top in tops if not top.endswith((".dist-info", ".libs", "..", "bin"))}
    return frozenset(found - {"", "__pycache__"})
