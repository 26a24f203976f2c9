"""The presence of stores: a folder or file of a store is created once; a lost one is reported, never created again."""

import os
from contextlib import suppress
from pathlib import Path

from tidemill.errors import StoreMissing

IDENTITY = ".store"
_PRIVATE = 0o700
_PRIVATE_FILE = 0o600


def create_missing_error(what: str, path: Path, mark: Path | None = None) -> StoreMissing:
    """Return the error for a store that was created and is not at its path."""
    anew = f"; to start a new one without its content, delete {mark}" if mark is not None else ""
    return StoreMissing(
        f"{what} at {path} is missing",
        f"move it back, and everything continues without a restart, or restore a backup: `tidemill restore FILE`{anew}",
    )


def make_folder(folder: Path) -> None:
    """Create a folder, and those above it, for the user of this process alone."""
    for missing in reversed([path for path in (folder, *folder.parents) if not path.exists()]):
        missing.mkdir(mode=_PRIVATE, exist_ok=True)


def open_private(path: str, flags: int) -> int:
    """Open a file that only the user of this process can read, as an `opener` of `open`."""
    return os.open(path, flags, _PRIVATE_FILE)


class StoreMark:
    """A file beside a store that shows that the store was created, also while the store is missing."""

    def __init__(self, path: Path) -> None:
        self.path = path.with_name(f".{path.name}{IDENTITY}")
        self._known = False

    @property
    def is_set(self) -> bool:
        """Return whether the store was created, by this or by another process."""
        if not self._known:
            self._known = self.path.exists()
        return self._known

    def set(self) -> None:
        """Remember that the store exists."""
        if self._known:
            return
        self._known = True
        # A store that cannot be written can still be read; its absence is noticed by the processes that have seen it.
        with suppress(OSError):
            self.path.touch(mode=_PRIVATE_FILE)

    def forget(self) -> None:
        """Allow that the store is created again."""
        self._known = False
        self.path.unlink(missing_ok=True)


class StoreFolder:
    """The folder of a store. `what` names the store in errors, as in `the journal`.

    A file inside identifies the folder, so that an empty folder at the path of a lost store is not taken for it. A
    folder of an earlier version has no such file: it gets one when it is opened, unless it is empty.
    """

    def __init__(self, path: Path, what: str) -> None:
        self.path = path
        self._what = what
        self._identity = str(path / IDENTITY)
        self._mark = StoreMark(path)

    def exists(self) -> bool:
        """Return whether the store exists; False if it was never created.

        Raises
        ------
        StoreMissing
            if it was created, and another or no folder is at its path now.
        """
        if not self._is_identified():
            return self._adopt()
        self._mark.set()
        return True

    def _is_identified(self) -> bool:
        try:
            os.stat(self._identity)  # noqa: PTH116 - creating a Path is slower than the call
        except (FileNotFoundError, NotADirectoryError):
            return False
        return True

    def require(self) -> None:
        """Raise `StoreMissing` if the store was created and is lost."""
        self.exists()

    def forget_lost(self) -> None:
        """Allow that a lost store is created again."""
        try:
            self.require()
        except StoreMissing:
            self._mark.forget()

    def create(self) -> Path:
        """Create the folder unless it exists, and return it.

        Raises
        ------
        StoreMissing
            if it was created before and is lost.
        """
        if not self.exists():
            make_folder(self.path)
            self._identify()
        return self.path

    def make(self, relative: str) -> Path:
        """Create a folder inside the store, and return it; a lost store is not created again by this."""
        folder = self.create()
        for part in Path(relative).parts:
            folder = folder / part
            try:
                folder.mkdir(mode=_PRIVATE, exist_ok=True)
            except FileNotFoundError:
                self.require()
                raise
        return folder

    def _adopt(self) -> bool:
        """Return whether the folder is a store of an earlier version; raise `StoreMissing` if the store is lost."""
        if self._mark.is_set:
            # The mark follows the file inside: another process may have created the store since the last look.
            if self._is_identified():
                return True
            raise create_missing_error(self._what, self.path, self._mark.path)
        try:
            with os.scandir(self.path) as entries:
                if next(entries, None) is None:
                    return False
        except (FileNotFoundError, NotADirectoryError):
            return False
        with suppress(OSError):
            self._identify()
        return True

    def _identify(self) -> None:
        os.close(os.open(self._identity, os.O_CREAT | os.O_WRONLY, _PRIVATE_FILE))
        self._mark.set()
