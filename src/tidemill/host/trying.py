"""Run as a process: loads packages and asks them, each in a child of its own; it imports nothing of Tidemill.

Arguments: the top-level modules that may be imported besides Python's own (none: all of the environment). On standard
input one request for each line, {"folder", "rows", "warm"}, and on standard output one answer for each, as JSON.
"""

import contextlib
import importlib
import json
import math
import os
import resource
import statistics
import sys
import time
from typing import Any

_LONGEST = 60
_ASKED = 20
_SECONDS = 0.25


class Only:
    """A finder of modules that does not find those which the lock does not name."""

    def __init__(self, finder: Any, allowed: frozenset[str]) -> None:
        self._finder = finder
        self._allowed = allowed

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Nothing, for a top-level module that is installed here and not allowed."""
        spec = self._finder.find_spec(name, path, target)
        allowed = path is not None or name in self._allowed or name in sys.stdlib_module_names
        allowed = allowed or name.startswith("_sysconfigdata")  # Python's own, and no name that it lists
        if spec is None or allowed or _is_own(spec.origin):
            return spec
        return None


def _is_own(origin: str | None) -> bool:
    """Whether a module comes with the package itself."""
    return bool(origin and _own and origin.startswith(_own))


_own = ""


def serve(allowed: frozenset[str]) -> None:
    """Answer requests until there are no more."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a model prints is no answer
    if allowed:
        sys.meta_path[:] = [Only(finder, allowed) for finder in sys.meta_path]
    for line in sys.stdin:
        request = json.loads(line)
        for name in request["warm"]:
            with contextlib.suppress(ImportError):  # the child will tell
                importlib.import_module(name)
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(read)
            _answer(request, write)
        os.close(write)
        with os.fdopen(read, encoding="utf-8") as told:
            said = told.read()
        _, status = os.waitpid(child, 0)
        died = json.dumps({"error": _death(os.waitstatus_to_exitcode(status))})
        answers.write((said or died) + "\n")
        answers.flush()


def _death(code: int) -> str:
    if code == -14:
        return f"no answer within {_LONGEST} s"
    return f"its process ended with {'signal' if code < 0 else 'code'} {abs(code)}"


def _answer(request: dict[str, Any], write: int) -> None:
    """Tell through a pipe what the package answered, and end this process."""
    import signal

    signal.alarm(_LONGEST)
    try:
        told = _ask(request["folder"], request["rows"])
    except ModuleNotFoundError as absent:
        told = {"error": str(absent), "missing": absent.name or ""}
    except BaseException as raised:  # noqa: BLE001 - whatever it is, it is told
        told = {"error": f"{type(raised).__name__}: {raised}"}
    with os.fdopen(write, "w", encoding="utf-8") as pipe:
        pipe.write(json.dumps(told))
    os._exit(0)


def _finite(value: Any) -> Any:
    """Numbers as JSON knows them: null for one that is none."""
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return value if math.isfinite(value) else None


def _ask(folder: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    global _own
    _own = os.path.join(folder, "code")  # noqa: PTH118 - nothing is imported that is not needed
    sys.path.insert(0, _own)
    model = importlib.import_module("tidemill_model")._load_pyfunc(folder)
    columns = {name: [row.get(name) for row in rows] for name in dict.fromkeys(n for row in rows for n in row)}
    first, again = (model.scores(columns).tolist() for _ in range(2))
    seconds = []
    began = time.perf_counter()
    for row in (rows * _ASKED)[:_ASKED]:
        single = {name: [value] for name, value in row.items()}
        start = time.perf_counter()
        model.scores(single)
        seconds.append(time.perf_counter() - start)
        if time.perf_counter() - began > _SECONDS and len(seconds) >= 3:
            break
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "scores": _finite(first),
        "same_twice": repr(first) == repr(again),  # NaN is like NaN here
        "latency_ms": statistics.median(seconds) * 1000 if seconds else 0.0,
        "memory_mb": peak / (1 << 20 if sys.platform == "darwin" else 1 << 10),
    }


if __name__ == "__main__":
    serve(frozenset(sys.argv[1:]))
