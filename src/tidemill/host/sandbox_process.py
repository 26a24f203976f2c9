"""The supervisor of a sandbox: starts a command with limits, adopts its descendants, and kills them all at the end.

It runs as a program of its own, with the standard library only: `sandbox_process.py PIPE REQUEST`. It writes how the
command ended to the pipe, as JSON.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

_SET_PARENT_DEATH_SIGNAL, _SET_CHILD_SUBREAPER = 1, 36  # of prctl(2)
_POLL_SECONDS = 0.02
_KILL_SECONDS = 10.0
_CGROUPS = Path("/sys/fs/cgroup")


class _Stopped(BaseException):
    """The process that started this one has ended, or does not need the result."""


def main(pipe: int, request: dict[str, Any]) -> int:
    """Run the command of a request and write how it ended."""
    os.set_inheritable(pipe, False)
    _adopt_descendants(request["parent"])
    signal.signal(signal.SIGTERM, _raise_stopped)
    group = _MemoryGroup(request["memory_mb"])
    try:
        result = _run(request, group)
    except _Stopped:
        _kill_all(group)
        return 1
    finally:
        group.remove()
    with contextlib.suppress(BrokenPipeError):
        os.write(pipe, json.dumps(result).encode())
    return 0


def _raise_stopped(*_: object) -> None:
    raise _Stopped


def _adopt_descendants(parent: int) -> None:
    """Become the parent of all orphaned descendants, and end with the parent (Linux)."""
    if sys.platform == "linux":
        prctl = ctypes.CDLL(None).prctl
        prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died before the call
            raise SystemExit(1)


def _run(request: dict[str, Any], group: "_MemoryGroup") -> dict[str, Any]:
    failure, reporting = os.pipe()
    child = os.fork()
    if child == 0:
        _start(request, group, reporting)
    os.close(reporting)
    with os.fdopen(failure, "rb") as reader:
        problem = reader.read().decode()  # empty once the command has been started
    if problem:
        os.waitpid(child, 0)
        return {"error": problem}
    deadline = time.monotonic() + request["seconds"]
    status: int | None = None
    while status is None and time.monotonic() < deadline:
        status = _reap(child)
        if status is None:
            time.sleep(_POLL_SECONDS)
    leftover = _kill_all(group)
    limit = group.kind or ("rlimit" if _limits_address_space() else "")
    result: dict[str, Any] = {"memory_limit": limit, "leftover": leftover if status is not None else 0}
    if status is None:
        return result | {"ending": "timeout", "status": 0}
    if group.has_killed():
        return result | {"ending": "memory", "status": 0}
    if os.WIFSIGNALED(status):
        return result | {"ending": "signal", "status": os.WTERMSIG(status)}
    return result | {"ending": "exit", "status": os.WEXITSTATUS(status)}


def _start(request: dict[str, Any], group: "_MemoryGroup", reporting: int) -> NoReturn:
    """Replace the child process with the command."""
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        if not group.join() and _limits_address_space():
            most = request["memory_mb"] << 20
            resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.set_inheritable(reporting, False)
        os.execvp(request["command"][0], request["command"])
    except BaseException as error:  # noqa: BLE001 - the parent reports it
        os.write(reporting, str(error).encode())
    os._exit(127)


def _limits_address_space() -> bool:
    """Return whether the system enforces a limit of the address space."""
    return sys.platform == "linux"


def _reap(child: int) -> int | None:
    """Reap ended processes; return the status of the command if it has ended."""
    status = None
    while True:
        try:
            process, ended = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return status
        if process == 0:
            return status
        if process == child:
            status = ended


def _kill_all(group: "_MemoryGroup") -> int:
    """Kill all descendants and reap them; return how many were running."""
    deadline, killed = time.monotonic() + _KILL_SECONDS, set[int]()
    while time.monotonic() < deadline:
        processes = _list_descendants() | group.list_processes()
        if not processes:
            break
        for process in processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(process, signal.SIGKILL)
        killed |= processes
        _reap(0)
        time.sleep(_POLL_SECONDS / 4)
    return len(killed)


def _list_descendants() -> set[int]:
    """Return the ids of the running descendants of this process."""
    children: dict[int, list[int]] = {}
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = file.read_text().rpartition(")")[2].split()
            if fields[0] not in ("Z", "X"):
                children.setdefault(int(fields[1]), []).append(int(file.parent.name))
    found, pending = set[int](), [os.getpid()]
    while pending:
        for child in children.get(pending.pop(), []):
            found.add(child)
            pending.append(child)
    return found


class _MemoryGroup:
    """A control group that limits the memory of all processes together; `kind` is empty if none can be made."""

    def __init__(self, memory_mb: int) -> None:
        self.kind = ""
        self._folder: Path | None = None
        for parent, limit in _list_parents():
            folder = parent / f"tidemill-{os.getpid()}"
            try:
                folder.mkdir()
            except OSError:
                continue
            try:
                (folder / limit).write_text(str(memory_mb << 20))
                (folder / "cgroup.procs").read_text()
            except OSError:
                with contextlib.suppress(OSError):
                    folder.rmdir()
                continue
            self.kind, self._folder = "cgroup", folder
            return

    def join(self) -> bool:
        """Move this process into the group; return whether there is one."""
        if self._folder is None:
            return False
        (self._folder / "cgroup.procs").write_text("0")
        return True

    def list_processes(self) -> set[int]:
        """Return the ids of the processes in the group."""
        if self._folder is None:
            return set()
        with contextlib.suppress(OSError):
            return {int(line) for line in (self._folder / "cgroup.procs").read_text().split()}
        return set()

    def has_killed(self) -> bool:
        """Return whether the system killed a process of the group because of its limit."""
        if self._folder is None:
            return False
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                lines = (self._folder / name).read_text().splitlines()
                return any(line.startswith("oom_kill ") and line.split()[1] != "0" for line in lines)
        return False

    def remove(self) -> None:
        """Delete the group."""
        if self._folder is not None:
            deadline = time.monotonic() + _KILL_SECONDS
            while time.monotonic() < deadline:
                try:
                    self._folder.rmdir()
                    return
                except FileNotFoundError:
                    return
                except OSError:  # a killed process is still leaving it
                    time.sleep(_POLL_SECONDS)


def _list_parents() -> list[tuple[Path, str]]:
    """Return the memory groups of this process, of both versions, each with the name of its limit."""
    parents = []
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            relative = path.lstrip("/")
            if not controllers:
                parents += [(_CGROUPS / relative, "memory.max"), (_CGROUPS / "unified" / relative, "memory.max")]
            elif "memory" in controllers.split(","):
                parents.append((_CGROUPS / "memory" / relative, "memory.limit_in_bytes"))
    return [(folder, limit) for folder, limit in parents if folder.is_dir()]


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), json.loads(sys.argv[2])))
