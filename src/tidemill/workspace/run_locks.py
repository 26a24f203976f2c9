"""Locks of runs: each running run locks a file, and the system releases the lock when its process dies.

The lock belongs to the process, not to its forked children: a child that outlives the run does not keep the lock.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tidemill.errors import Conflict, TidemillError

# A process can always lock a file that it has already locked, so the module keeps a list of its locks.
_locked: dict[Path, int] = {}


class RunLocks:
    """The locks of the runs of a workspace on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def lock(self, run: str) -> Iterator[None]:
        """Lock a run for the block; after an error the file remains, so that the run counts as dead.

        Raises
        ------
        Conflict
            if another process has locked the run.
        """
        handle = self._try_lock(run)
        if handle is None:
            raise Conflict(f"run {run} is running", f"wait for it, or cancel it: `tidemill runs cancel {run}`")
        file = self._file(run)
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        _locked[file] = os.getpid()
        try:
            yield
            if _locked.get(file) == os.getpid():
                file.unlink(missing_ok=True)
        finally:
            _locked.pop(file, None)
            os.close(handle)

    def list_dead(self) -> Iterator[str]:
        """Iterate over the runs of this machine whose process died before it stored the final state."""
        return (file.stem for file in self._folder.glob("*.lock") if self.is_dead(file.stem))

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
