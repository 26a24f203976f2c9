"""Processes that wait for the next probe: the sessions of this process share them, as each takes long to start."""

import atexit
import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_PROGRAM = str(Path(__file__).with_name("probe_process.py"))
# A package must not see addresses, tokens or keys of this process.
_PASSED_VARIABLES = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
# Threads do not speed up the prediction of one row, and their start takes longer than the prediction.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
_MOST_WAITING = 3


class _Kind(NamedTuple):
    """What a process was started with; `lock` is that of the packages which it imported."""

    parent: int  # a forked process inherits the pipes of its parent, and must not write to them
    interpreter: str
    lock: Sequence[str]
    modules: Sequence[str]
    variables: Mapping[str, str]


_waiting: list[tuple[_Kind, "subprocess.Popen[str]"]] = []  # the one that was used last is the last one
_mutex = threading.Lock()


def request_probe(interpreter: str, lock: Sequence[str], modules: Sequence[str], request: str) -> str:
    """Return the response to a request; it is empty if the process stops as soon as it starts.

    `modules` are the top-level modules that the process may import; none are all of the interpreter.
    """
    variables = {name: os.environ[name] for name in _PASSED_VARIABLES if name in os.environ} | _ONE_THREAD
    kind = _Kind(os.getpid(), interpreter, tuple(lock), tuple(modules), variables)
    for waiting in (_take(kind), None):
        process = waiting or _start(kind)
        try:
            line = _ask(process, request)
        except BaseException:  # its response may still arrive
            _stop(process)
            raise
        if line.endswith("\n"):  # not a part of a response
            _keep(kind, process)
            return line
        _stop(process)
    return ""


def _take(kind: _Kind) -> "subprocess.Popen[str] | None":
    with _mutex:
        for index, (other, process) in enumerate(_waiting):
            if other == kind and process.poll() is None:
                del _waiting[index]
                return process
    return None


def _keep(kind: _Kind, process: "subprocess.Popen[str]") -> None:
    with _mutex:
        _waiting.append((kind, process))
        surplus = [_waiting.pop(0) for _ in range(len(_waiting) - _MOST_WAITING)]
    for other, old in surplus:
        if other.parent == os.getpid():
            _stop(old)


def _start(kind: _Kind) -> "subprocess.Popen[str]":
    # -I removes the project's folder and the user's packages from sys.path.
    return subprocess.Popen(
        [kind.interpreter, "-I", _PROGRAM, *kind.modules],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        encoding="utf-8",
        env=dict(kind.variables),
    )


def _ask(process: "subprocess.Popen[str]", request: str) -> str:
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.write(request + "\n")
        process.stdin.flush()
        return process.stdout.readline()
    return ""


def _stop(process: "subprocess.Popen[str]") -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):  # a child of it may have them open for a minute
        with suppress(BrokenPipeError):  # a request that it did not read
            assert pipe is not None
            pipe.close()
    process.wait()


@atexit.register
def _stop_all() -> None:
    for kind, process in _waiting:
        if kind.parent == os.getpid():
            _stop(process)
    _waiting.clear()
