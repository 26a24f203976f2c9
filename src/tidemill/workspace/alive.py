"""Which runs are alive: each holds the lock of a file of its own, which the system opens when its process dies.

A lock that a file's owner holds belongs to the process, not to those that it forks: a child that outlives a run does
not keep it alive.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tidemill.errors import Conflict, TidemillError

# A process can always take its own locks: what it holds must be remembered.
_held: dict[Path, int] = {}


class Alive:
    """The runs of a workspace that are alive on this machine."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextmanager
    def hold(self, run: str) -> Iterator[None]:
        """Be the process of a run for the block; where it raises, the run is left to be found dead, or forgotten.

        Raises
        ------
        Conflict
            if another is.
        """
        handle = self._take(run)
        if handle is None:
            raise Conflict(f"run {run} is at work already", f"wait for it, or end it: `tidemill runs cancel {run}`")
        file = self._file(run)
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        _held[file] = os.getpid()
        try:
            yield
            if _held.get(file) == os.getpid():
                file.unlink(missing_ok=True)
        finally:
            _held.pop(file, None)
            os.close(handle)

    def dead(self) -> Iterator[str]:
        """The runs that began on this machine, whose process is gone, and of which nobody has written down the end."""
        return (file.stem for file in self._folder.glob("*.lock") if self.is_dead(file.stem))

    def is_dead(self, run: str) -> bool:
        """Whether the run began on this machine and its process is gone."""
        if not self._file(run).exists():
            return False
        handle = self._take(run)
        if handle is not None:
            os.close(handle)
        return handle is not None

    def process(self, run: str) -> int | None:
        """The process that is at work on a run, if it is on this machine."""
        try:
            return int(self._file(run).read_text()) if not self.is_dead(run) else None
        except (FileNotFoundError, ValueError):
            return None

    def forget(self, run: str) -> None:
        """The run's end was written: its file is not needed any more."""
        self._file(run).unlink(missing_ok=True)

    def _file(self, run: str) -> Path:
        return self._folder / f"{run}.lock"

    def _take(self, run: str) -> int | None:
        """The run's file, open and locked; None where another holds it."""
        file = self._file(run)
        if _held.get(file) == os.getpid():
            return None
        while True:
            handle = self._opened(file)
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(handle)
                return None
            # Whoever held it before may have taken the file away in between: then the lock is of no file.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), file.stat()):
                    return handle
            os.close(handle)

    def _opened(self, file: Path) -> int:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            return os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as refused:
            raise TidemillError(
                f"the workspace {self._folder} cannot be written: {refused.strerror}",
                "check free space and permissions; nothing was begun",
            ) from None
