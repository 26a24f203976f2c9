"""Probes model packages in fresh processes that can import only the packages in a lock."""

import contextlib
import hashlib
import platform
import sys
import tempfile
from functools import cache
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tidemill.core.probe import PackageProbe
from tidemill.errors import TidemillError
from tidemill.host.probe_pool import request_probe
from tidemill.host.uv import build_environment

_LOCK = "requirements.txt"


class PackageProber:
    """Probes packages, each in a process of its own; `folder` keeps the environments that it builds.

    A process waits with the packages of a lock imported, and forks for each probe; all probers of this process share
    it. If all packages of the lock are installed on this machine in the same versions, it uses the present interpreter
    and cannot import any other package. Otherwise uv builds the environment, which is kept.
    """

    writable: ClassVar[bool] = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def probe(
        self, files: dict[str, bytes], rows: list[dict[str, Any]], warm: tuple[str, ...] = (), *, strict: bool = False
    ) -> PackageProbe:
        """Load the package with these files in a fresh process and predict these rows.

        With `strict`, the environment is always built from the lock.
        """
        lock = tuple(files[_LOCK].decode().split())
        size = sum(map(len, files.values())) / (1 << 20)
        different = _list_different(lock)
        where, interpreter, warning = "a fresh process with the packages of its lock", sys.executable, ""
        built = strict or bool(different)
        if built:
            try:
                interpreter, where = str(self._find_or_build(lock)), "an environment built from its lock"
            except TidemillError as failure:
                warning = f"the environment of its lock cannot be built: {failure.problem}"
                if strict:
                    return PackageProbe(where="nowhere", error=warning, size_mb=size)
                built = False
                where = "a fresh process with the present environment"
                warning = f"{warning}; the present environment differs in {', '.join(different)}"
        with tempfile.TemporaryDirectory(prefix="tidemill-") as folder:
            for name, content in files.items():
                file = Path(folder) / name
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            request = {"folder": folder, "rows": rows, "warm": list(warm)}
            modules = [] if built else sorted(_list_modules(lock)) or ["-"]
            line = request_probe(interpreter, lock, modules, msgspec.json.encode(request).decode())
        result = _Response(error="the probe process stops as soon as it starts")
        if line:
            result = msgspec.json.decode(line, type=_Response)
        return PackageProbe(**msgspec.structs.asdict(result), where=where, warning=warning, size_mb=size)

    def _find_or_build(self, lock: tuple[str, ...]) -> Path:
        """Return the interpreter of the environment of a lock; a workspace builds each environment once."""
        python = platform.python_version()
        folder = self._folder / hashlib.sha256("\n".join((python, *lock)).encode()).hexdigest()[:32]
        interpreter = folder / "bin" / "python"
        if interpreter.exists():
            return interpreter
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._folder, prefix="draft-", ignore_cleanup_errors=True) as draft:
            build_environment(python, list(lock), Path(draft) / "environment")
            with contextlib.suppress(OSError):  # another process built it first
                (Path(draft) / "environment").rename(folder)
        return interpreter


class _Response(msgspec.Struct, frozen=True, kw_only=True):
    """A response of the probe process; a score that is not finite is null."""

    scores: list[Any] = []
    same_twice: bool = True
    latency_ms: float = 0.0
    memory_mb: float = 0.0
    error: str = ""
    missing: str = ""


def _list_different(lock: tuple[str, ...]) -> list[str]:
    """Return the lines of a lock whose package is missing on this machine or has another version."""
    return [line for line in lock if _find_version(line.partition("==")[0]) != line.partition("==")[2]]


@cache
def _find_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


@cache
def _list_modules(lock: tuple[str, ...]) -> frozenset[str]:
    """Return the top-level modules of the packages of a lock."""
    modules: set[str] = set()
    for line in lock:
        try:
            record = distribution(line.partition("==")[0]).read_text("RECORD") or ""
        except PackageNotFoundError:
            continue
        tops = {row.partition(",")[0].partition("/")[0] for row in record.splitlines()}
        modules |= {top.partition(".")[0] for top in tops if not top.endswith((".dist-info", ".libs", "..", "bin"))}
    return frozenset(modules - {"", "__pycache__"})
