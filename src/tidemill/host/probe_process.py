"""The program of a probe process: loads packages and predicts rows, each package in a child process.

It imports nothing from Tidemill. Arguments: the top-level modules that may be imported besides Python's own (none:
the whole environment). It reads one JSON request per line from standard input, {"folder", "rows", "warm"}, and writes
one JSON response per line to standard output.
"""

import contextlib
import importlib
import json
import math
import os
import resource
import select
import signal
import statistics
import sys
import time
from typing import Any

_TIMEOUT_SECONDS = 60
_MAX_PREDICTIONS = 20
_SECONDS = 0.25


class AllowedFinder:
    """A module finder that finds only the modules of the lock, of Python and of the package."""

    def __init__(self, finder: Any, allowed: frozenset[str]) -> None:
        self._finder = finder
        self._allowed = allowed

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Return the spec of a module, or None if it is a top-level module that is not allowed."""
        spec = self._finder.find_spec(name, path, target)
        allowed = path is not None or name in self._allowed or name in sys.stdlib_module_names
        allowed = allowed or name.startswith("_sysconfigdata")  # part of Python, but not in its list of modules
        if spec is None or allowed or _is_in_package(spec.origin):
            return spec
        return None


def _is_in_package(origin: str | None) -> bool:
    """Return whether the package itself contains the module."""
    return bool(origin and _package_code and origin.startswith(_package_code))


_package_code = ""


def serve(allowed: frozenset[str]) -> None:
    """Respond to requests until standard input is closed."""
    responses = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # the output of a model must not mix with the responses
    if allowed:
        sys.meta_path[:] = [AllowedFinder(finder, allowed) for finder in sys.meta_path]
    for line in sys.stdin:
        request = json.loads(line)
        for name in request["warm"]:
            with contextlib.suppress(ImportError):  # the child reports it
                importlib.import_module(name)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            os.setpgid(0, 0)
            _respond(request, write)
        with contextlib.suppress(OSError):  # the child may have been faster
            os.setpgid(child, child)
        os.close(write)
        response, status = _receive(child, read)
        failure = json.dumps({"error": _describe_exit(os.waitstatus_to_exitcode(status))})
        responses.write((response or failure) + "\n")
        responses.flush()


def _receive(child: int, read: int) -> tuple[str, int]:
    """Return what a child wrote to a pipe, and its exit status; then end what it leaves behind, which has the pipe."""
    parts: list[bytes] = []
    status = None
    while True:
        ready = select.select([read], [], [], 0.1 if status is None else 0)[0]
        if ready:
            part = os.read(read, 1 << 16)
            parts.append(part)
        if (not ready and status is not None) or (ready and not part):
            break
        if not ready:
            ended, code = os.waitpid(child, os.WNOHANG)
            status = code if ended else None
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)
    os.close(read)
    if status is None:
        status = os.waitpid(child, 0)[1]
    return b"".join(parts).decode(), status


def _describe_exit(code: int) -> str:
    if code == -14:
        return f"no prediction within {_TIMEOUT_SECONDS} s"
    return f"its process stopped with {'signal' if code < 0 else 'code'} {abs(code)}"


def _respond(request: dict[str, Any], write: int) -> None:
    """Write the result for a request to a pipe, and exit this process."""
    signal.alarm(_TIMEOUT_SECONDS)
    try:
        response = _probe(request["folder"], request["rows"])
    except ModuleNotFoundError as absent:
        response = {"error": str(absent), "missing": absent.name or ""}
    except BaseException as failure:  # noqa: BLE001 - a package may raise anything; the parent reports it
        response = {"error": f"{type(failure).__name__}: {failure}"}
    with os.fdopen(write, "w", encoding="utf-8") as pipe:
        pipe.write(json.dumps(response))
    os._exit(0)


def _to_finite(value: Any) -> Any:
    """Return numbers that JSON can represent: a value that is not finite becomes null."""
    if isinstance(value, list):
        return [_to_finite(element) for element in value]
    return value if math.isfinite(value) else None


def _probe(folder: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    global _package_code
    _package_code = os.path.join(folder, "code")  # noqa: PTH118 - importing pathlib would take time and memory
    sys.path.insert(0, _package_code)
    model = importlib.import_module("tidemill_model")._load_pyfunc(folder)
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(n for row in rows for n in row)}
    first, second = (model.scores(columns).tolist() for _ in range(2))
    seconds = []
    start = time.perf_counter()
    for row in (rows * _MAX_PREDICTIONS)[:_MAX_PREDICTIONS]:
        single = {name: [value] for name, value in row.items()}
        before = time.perf_counter()
        model.scores(single)
        seconds.append(time.perf_counter() - before)
        if time.perf_counter() - start > _SECONDS and len(seconds) >= 3:
            break
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "scores": _to_finite(first),
        "same_twice": repr(first) == repr(second),  # NaN equals NaN in this comparison
        "latency_ms": statistics.median(seconds) * 1000 if seconds else 0.0,
        "memory_mb": peak / (1 << 20 if sys.platform == "darwin" else 1 << 10),
    }


if __name__ == "__main__":
    serve(frozenset(sys.argv[1:]))
