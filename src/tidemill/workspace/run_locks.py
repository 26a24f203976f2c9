"""Locks of runs: each running run locks a file, and the system releases the lock when its process dies.

The lock belongs to the process, not to its forked children: a child that outlives the run does not keep the lock.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tidemill.errors import Conflict, TidemillError
from tidemill.ledger.database import Database, Lock

# A process can always lock a file that it has already locked, so the module keeps a list of its locks.
_locked: dict[Path, int] = {}
# Whoever looks whether a run is locked on a server locks it for a moment.
_TRIES, _PAUSE_SECONDS = 5, 0.1
_LOOK_SECONDS, _RELEASE_SECONDS = 2.0, 5.0


class RunLocks:
    """The locks of the runs of a workspace.

    A file shows the process of a run to other processes of the workspace. A ledger on a server, which several machines
    and workspaces share, has a lock for each run too: it shows them that the process lives, and that it has died. After
    a restart of the server it is locked again within seconds.
    """

    def __init__(self, folder: Path, database: Database | None = None) -> None:
        self._folder = folder
        self._server = database if database is not None and database.file is None else None

    @property
    def are_shared(self) -> bool:
        """Return whether `is_running` also knows the runs of other machines and workspaces."""
        return self._server is not None

    @contextmanager
    def lock(self, run: str, *, is_resumed: bool = False) -> Iterator[None]:
        """Lock a run for the block; after an error the file remains, so that the run counts as dead.

        One that `is_resumed` was started before, by a process that may lock it again after a restart of the server.

        Raises
        ------
        Conflict
            if another process has locked the run.
        """
        is_free = not is_resumed or not self.are_shared or self.has_died(run)
        handle = self._try_lock(run) if is_free else None
        if handle is None:
            raise Conflict(f"run {run} is running", f"wait for it, or cancel it: `tidemill runs cancel {run}`")
        file = self._file(run)
        try:
            kept = self._lock_on_server(run)
        except Conflict:  # it lives elsewhere, and is no dead run of this workspace
            file.unlink(missing_ok=True)
            os.close(handle)
            raise
        except BaseException:
            os.close(handle)
            raise
        process = _locked[file] = os.getpid()
        try:
            os.ftruncate(handle, 0)
            os.write(handle, str(process).encode())
            yield
            if _locked.get(file) == os.getpid():
                file.unlink(missing_ok=True)
        finally:
            _locked.pop(file, None)
            os.close(handle)
            if kept is not None and process == os.getpid():  # a forked child shares the connection
                kept.release()

    def _lock_on_server(self, run: str) -> "_KeptLock | None":
        """Lock a run for all machines that share the ledger; return None if it is a file. Raise `Conflict`."""
        if self._server is None:
            return None
        for _ in range(_TRIES):
            lock = self._server.lock(_name(run))
            if lock is not None:
                return _KeptLock(self._server, _name(run), lock)
            time.sleep(_PAUSE_SECONDS)
        raise Conflict(
            f"run {run} is running on another machine or in another workspace",
            f"wait for it, or cancel it: `tidemill runs cancel {run}`",
        )

    def is_running(self, run: str) -> bool:
        """Return whether a process executes the run: on this machine, or on any that shares a ledger on a server.

        Raises
        ------
        TidemillError
            if the server does not respond.
        """
        return self.find_process(run) is not None or self._is_locked_on_server(run)

    def has_died(self, run: str) -> bool:
        """Return whether no process executes a run, also not one that locks it again after a restart of the server."""
        if self.is_running(run):
            return False
        if self._server is None:
            return True
        time.sleep(_LOOK_SECONDS + 1)
        return not self.is_running(run)

    def _is_locked_on_server(self, run: str) -> bool:
        if self._server is None:
            return False
        lock = self._server.lock(_name(run), shared=True)
        if lock is not None:
            lock.release()
        return lock is None

    def list_dead(self) -> Iterator[str]:
        """Iterate over the runs of this machine whose process died before it stored the final state."""
        dead = (file.stem for file in self._folder.glob("*.lock") if self.is_dead(file.stem))
        return (run for run in dead if not self._is_locked_on_server(run))  # another workspace may have resumed it

    def is_dead(self, run: str) -> bool:
        """Return whether the run started on this machine and its process has died."""
        if not self._file(run).exists():
            return False
        handle = self._try_lock(run)
        if handle is not None:
            os.close(handle)
        return handle is not None

    def find_process(self, run: str) -> int | None:
        """Return the id of the process of a run, or None if it does not run on this machine."""
        try:
            return int(self._file(run).read_text()) if not self.is_dead(run) else None
        except (FileNotFoundError, ValueError):
            return None

    def delete(self, run: str) -> None:
        """Delete the file of a run whose final state is stored."""
        self._file(run).unlink(missing_ok=True)

    def _file(self, run: str) -> Path:
        return self._folder / f"{run}.lock"

    def _try_lock(self, run: str) -> int | None:
        """Open and lock the file of a run; return None if another process has locked it."""
        file = self._file(run)
        if _locked.get(file) == os.getpid():
            return None
        while True:
            handle = self._open(file)
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(handle)
                return None
            # The previous process may have deleted the file after this one opened it; then the lock has no effect.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), file.stat()):
                    return handle
            os.close(handle)

    def _open(self, file: Path) -> int:
        try:
            # Only this folder: a workspace that was moved away must not be created again.
            self._folder.mkdir(mode=0o700, exist_ok=True)
            return os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as refused:
            raise TidemillError(
                f"the workspace {self._folder} cannot be written: {refused.strerror}",
                "check free space and permissions; nothing was started",
            ) from None


class _KeptLock:
    """A lock on a server that a thread looks after: when the server has restarted, it locks the name again."""

    def __init__(self, server: Database, name: str, lock: Lock) -> None:
        self._server, self._name, self._lock = server, name, lock
        self._released = threading.Event()
        self._thread = threading.Thread(target=self._keep, name=f"lock of {name}", daemon=True)
        self._thread.start()

    def release(self) -> None:
        self._released.set()
        self._thread.join(_RELEASE_SECONDS)
        self._lock.release()

    def _keep(self) -> None:
        while not self._released.wait(_LOOK_SECONDS):
            with suppress(TidemillError):
                try:
                    self._lock.is_alive()
                except TidemillError:
                    # It cannot be locked if another process has resumed the run meanwhile.
                    self._lock = self._server.lock(self._name) or self._lock


def _name(run: str) -> str:
    return f"run/{run}"
