"""The programs that steps start: they end with their step, and with the process of the run.

After a timeout, a cancellation or a failure, the process that ran the step ends them. If this process is killed, its
guardian does (see `process_tree`). A program that must go on has `TIDEMILL_OUTLIVES_STEP=1` in its environment.
"""

import multiprocessing
import os
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import connection, resource_tracker
from pathlib import Path

from tidemill.host import process_tree
from tidemill.host.process_tree import OUTLIVES_STEP, TOKEN

_PROGRAM = str(Path(process_tree.__file__))
OUTLIVING = {OUTLIVES_STEP: "1"}
"""The variables of a program that must outlive the step that starts it."""


class _Guardian:
    """The process that ends the programs of this process if it is killed."""

    def __init__(self) -> None:
        self.owner = os.getpid()
        self.token = secrets.token_hex(16)
        self.runs = 0
        self._since = 0
        self._pipe, self._process = -1, 0

    def count(self, change: int) -> None:
        """Count the runs of this process that start and end."""
        if not self.runs:
            self._since = process_tree.read_ticks()
        self.runs += change
        if sys.platform != "linux":
            return
        if self.runs and not self._is_alive():
            self._start()
        with suppress(OSError):
            os.write(self._pipe, f"{self._since if self.runs else 0} ".encode())

    def list_spared(self) -> set[int]:
        """Return the processes of this process that belong to no step."""
        tracker = getattr(getattr(resource_tracker, "_resource_tracker", None), "_pid", None)
        return {process for process in (self._process, tracker) if process}

    def _is_alive(self) -> bool:
        try:
            return bool(self._process) and os.waitpid(self._process, os.WNOHANG)[0] == 0
        except ChildProcessError:
            return False

    def _start(self) -> None:
        process_tree.adopt_orphans()
        if self._pipe >= 0:
            os.close(self._pipe)
        reading, self._pipe = os.pipe()
        command = [sys.executable, "-I", "-S", _PROGRAM, str(self.owner), self.token]
        actions = [
            (os.POSIX_SPAWN_DUP2, reading, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        try:
            self._process = os.posix_spawn(sys.executable, command, {}, file_actions=actions)
        except OSError:  # too many processes: the steps report it if they need one
            self._process = 0
        finally:
            os.close(reading)


_mutex = threading.Lock()
_guardian: _Guardian | None = None


def _get_guardian() -> _Guardian:
    global _guardian
    if _guardian is None or _guardian.owner != os.getpid():  # a forked process has its own
        _guardian = _Guardian()
    return _guardian


@contextmanager
def guard_programs() -> Iterator[None]:
    """End the programs that steps start in the block if this process is killed."""
    os.environ.pop(OUTLIVES_STEP, None)  # it is about this process, not about the programs of its steps
    with _mutex:
        guardian = _get_guardian()
        guardian.count(1)
        os.environ[TOKEN] = guardian.token
    try:
        yield
    finally:
        with _mutex:
            if guardian.owner == os.getpid():
                guardian.count(-1)
                if not guardian.runs:
                    os.environ.pop(TOKEN, None)


@contextmanager
def end_programs_on_error() -> Iterator[None]:
    """End the programs that were started in the block, and all that these started, if the block raises."""
    process, since = os.getpid(), process_tree.read_ticks()
    try:
        yield
    except BaseException:
        if os.getpid() == process:
            process_tree.end_descendants(process, since=since, spared=_get_guardian().list_spared())
        raise


def become_worker() -> str:
    """Adopt the programs of the steps of this worker; return the mark that they inherit."""
    process_tree.adopt_orphans()
    mark = f"{os.environ.get(TOKEN) or secrets.token_hex(16)}.{os.getpid()}"
    os.environ[TOKEN] = mark
    return mark


def end_worker(process: int) -> None:
    """Kill a worker and all programs that its step started; none of them can start another one meanwhile."""
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGSTOP)
    process_tree.end_descendants(process)
    with suppress(ProcessLookupError):
        os.kill(process, signal.SIGKILL)


def end_programs_of_dead_worker(process: int) -> None:
    """Kill the programs of a worker that died: this process has adopted them."""
    if token := os.environ.get(TOKEN):
        process_tree.end_marked(f"{token}.{process}\0")


def end_own_programs() -> None:
    """Kill all programs below this process."""
    process_tree.end_descendants(os.getpid())


def exit_with_parent() -> None:
    """Exit this process of `multiprocessing`, with all programs below it, as soon as its parent dies."""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    end_own_programs()
    os._exit(1)
