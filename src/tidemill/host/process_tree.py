"""The processes below a process (Linux): finds them, ends them, and ends those that a killed process leaves behind.

It is also a program, with the standard library only: `process_tree.py PARENT TOKEN`, the guardian of the process
PARENT. It reads from standard input since when steps are running, in ticks, or 0 while none is, with a space after
each number. When PARENT has ended, also by a signal that it cannot catch, the guardian ends the programs that PARENT
started since then: those that it saw below PARENT, and those whose environment contains the token.

A process with the variable `TIDEMILL_OUTLIVES_STEP` in its environment is never ended, and neither are its children. A
container belongs to its runtime, and is not ended either.
"""

import contextlib
import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

TOKEN = "TIDEMILL_STEP_TOKEN"
OUTLIVES_STEP = "TIDEMILL_OUTLIVES_STEP"
_SET_CHILD_SUBREAPER = 36  # of prctl(2)
_WATCH_SECONDS, _IDLE_SECONDS = 0.2, 2.0
_KILL_SECONDS = 10.0
_GONE = "ZX"
# The processes of podman that keep a container running clear their environment.
_RUNTIMES = b"conmon conmonrs catatonit podman rootlessport slirp4netns aardvark-dns pasta".split()


class Process(NamedTuple):
    """A process: its id, and when it started, in ticks since the boot, so that a reused id is another process."""

    id: int
    started: int


def adopt_orphans() -> None:
    """Become the parent of all descendants whose parents end, also of those that leave the session (Linux)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def read_ticks() -> int:
    """Return the present time in the unit of `Process.started`."""
    if sys.platform != "linux":
        return 0
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def end_descendants(process: int, *, since: int = 0, spared: Collection[int] = ()) -> int:
    """Kill the descendants of a process that started at `since` or later; return their number.

    What an earlier child starts is not killed: a database server that ran before a step starts processes of its own.
    They are stopped first, so that none can start another one meanwhile.
    """
    return _end(lambda: find_descendants(process, since=since, spared=spared))


def end_marked(mark: str) -> int:
    """Kill the processes with this token in their environment, and their descendants; return their number."""
    return _end(lambda: _add_descendants(_find_marked(mark)))


def find_descendants(process: int, *, since: int = 0, spared: Collection[int] = ()) -> set[Process]:
    """Return the running descendants of a process that started at `since` or later.

    Those that outlive steps, are spared or started earlier are left out, and so are all processes below them.
    """
    children = _list_children()
    kept = {
        parent: {one for one in ones if one.started >= since and one.id not in spared}
        for parent, ones in children.items()
    }
    return _walk([process], kept)


def _end(find: Callable[[], set[Process]]) -> int:
    stopped: set[Process] = set()
    while found := find() - stopped:
        for one in found:
            _send(one, signal.SIGSTOP)
        stopped |= found
    for one in stopped:
        _send(one, signal.SIGKILL)
    deadline = time.monotonic() + _KILL_SECONDS
    while any(_is_running(one) for one in stopped) and time.monotonic() < deadline:
        time.sleep(0.002)
    return len(stopped)


def _send(process: Process, number: int) -> None:
    with contextlib.suppress(OSError):
        if _read(process.id)[1] == process:
            os.kill(process.id, number)


def _is_running(process: Process) -> bool:
    """Return whether a killed process still runs; reap it if it is a child of this process."""
    with contextlib.suppress(ChildProcessError):
        if os.waitpid(process.id, os.WNOHANG)[0] == process.id:
            return False
    try:
        _, current, state = _read(process.id)
    except OSError:
        return False
    return current == process and state not in _GONE


def _read(process: int) -> tuple[int, Process, str]:
    """Return the parent of a process, the process, and its state; raise `OSError` if it has ended."""
    with open(f"/proc/{process}/stat", "rb") as file:  # noqa: PTH123 - pathlib would take half of the guardian's start
        fields = file.read().rpartition(b")")[2].split()
    return int(fields[1]), Process(process, int(fields[19])), fields[0].decode()


def _list_processes() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - as above
    except OSError:
        return []


def _list_children() -> dict[int, set[Process]]:
    """Return the running children of each process."""
    children: dict[int, set[Process]] = {}
    for number in _list_processes():
        with contextlib.suppress(OSError, IndexError, ValueError):
            parent, process, state = _read(number)
            if state not in _GONE:
                children.setdefault(parent, set()).add(process)
    return children


def _walk(roots: Iterable[int], children: dict[int, set[Process]]) -> set[Process]:
    found: set[Process] = set()
    pending = list(roots)
    while pending:
        below = {one for one in children.get(pending.pop(), ()) if one not in found and not _outlives(one.id)}
        found |= below
        pending += [one.id for one in below]
    return found


def _add_descendants(processes: set[Process]) -> set[Process]:
    return processes | _walk([one.id for one in processes], _list_children())


def _find_marked(mark: str) -> set[Process]:
    found, sought = set(), f"\0{TOKEN}={mark}".encode()
    for number in _list_processes():
        with contextlib.suppress(OSError, IndexError, ValueError):
            if number != os.getpid() and sought in _read_environment(number) and not _outlives(number):
                found.add(_read(number)[1])
    return found


def _outlives(process: int) -> bool:
    try:
        with open(f"/proc/{process}/comm", "rb") as file:  # noqa: PTH123 - as above
            name = file.read().strip().partition(b".")[0]
        return name in _RUNTIMES or f"\0{OUTLIVES_STEP}=".encode() in _read_environment(process)
    except OSError:
        return False


def _read_environment(process: int) -> bytes:
    with open(f"/proc/{process}/environ", "rb") as file:  # noqa: PTH123 - as above
        return b"\0" + file.read()


def _see_descendants(process: int, since: int) -> set[Process]:
    """Return what `find_descendants` does without reading all processes, if the kernel lists children."""
    found: set[Process] = set()
    pending = [process]
    while pending:
        parent = pending.pop()
        try:
            threads = os.listdir(f"/proc/{parent}/task")  # noqa: PTH208 - as above
        except OSError:
            continue
        for thread in threads:
            try:
                with open(f"/proc/{parent}/task/{thread}/children", "rb") as file:  # noqa: PTH123 - as above
                    numbers = [int(number) for number in file.read().split()]
            except FileNotFoundError:
                if os.path.exists(f"/proc/{parent}/task/{thread}"):  # noqa: PTH110 - as above
                    return find_descendants(process, since=since)
                continue
            except OSError:
                continue
            for number in numbers:
                with contextlib.suppress(OSError, IndexError, ValueError):
                    one = _read(number)[1]
                    is_new = one.started >= since and one not in found and number != os.getpid()
                    if is_new and not _outlives(number):
                        found.add(one)
                        pending.append(number)
    return found


def guard(parent: int, token: str) -> None:
    """Wait until a process has ended, and end the programs that it started."""
    os.setsid()  # a signal to the process group of the parent does not end its guardian
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watched = [0]
    with contextlib.suppress(OSError, AttributeError):
        watched.append(os.pidfd_open(parent))
    seen: set[Process] = set()
    since = 0
    while os.getppid() == parent:
        ready, _, _ = select.select(watched, [], [], _WATCH_SECONDS if since else _IDLE_SECONDS)
        if 0 in ready:
            message = os.read(0, 1000).split()
            since = int(message[-1]) if message else 0
            if not message:
                watched.remove(0)
        elif ready:
            break
        if since:
            seen = {one for one in seen if _is_running(one)} | _see_descendants(parent, since)
    _end(lambda: _add_descendants(_find_left(seen) | _find_marked(token)))


def _find_left(seen: set[Process]) -> set[Process]:
    return {one for one in seen if _is_running(one) and not _outlives(one.id)}


if __name__ == "__main__":
    guard(int(sys.argv[1]), sys.argv[2])
