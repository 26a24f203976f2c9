"""Delta tables whose files are called by the paths that they have."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from deltalake import DeltaTable

from tidemill.errors import InputError

_LOCAL = "file://"
_UNUSABLE = re.compile(r"[\[\]^|\\]|%[0-9A-Fa-f]{2}")


def require_usable_folder(folder: Path) -> None:
    """Raise `InputError` if no Delta table can be in a folder, because of the characters in its path."""
    path = str(folder.resolve())
    if found := _UNUSABLE.search(path):
        raise InputError(
            f"the path {path} contains {found[0]!r}: it can contain no tables of rows",
            "use a folder whose path has none of [ ] ^ | \\, and no code such as %41",
        )


class LocalTable(DeltaTable):
    """A Delta table; Delta itself calls the files of a local folder as in a URL."""

    def __init__(self, table_uri: str, *args: Any, **kwargs: Any) -> None:
        if "://" not in table_uri:
            require_usable_folder(Path(table_uri))
        super().__init__(table_uri, *args, **kwargs)
        self._known = self.version(), self._read_entry()

    def file_uris(self, *args: Any, **kwargs: Any) -> list[str]:
        """Where its files are; paths on this machine, also where the folder's name has a space or an umlaut."""
        uris = super().file_uris(*args, **kwargs)
        if not self.table_uri.startswith(_LOCAL):
            return uris
        folder = self.table_uri.removeprefix(_LOCAL)
        return [unquote(folder) + uri.removeprefix(folder) for uri in uris]

    def is_newest(self) -> bool:
        """Whether no version was written since this one was read; Delta itself needs milliseconds to find out."""
        if not self.table_uri.startswith(_LOCAL):
            return False
        # The entry of this version too: a log that was cleaned up or replaced has to be read.
        return self._find_entry(self.version()).exists() and not self._find_entry(self.version() + 1).exists()

    def is_replaced(self) -> bool:
        """Whether another table is in its folder since it was read."""
        version, entry = self.version(), self._read_entry()
        if version != self._known[0]:  # it has read or written this version itself
            self._known = version, entry
        return entry != self._known[1]

    def _read_entry(self) -> tuple[int, int] | None:
        """Return what differs between two tables; None if the log no longer has the entry."""
        with suppress(OSError):
            status = self._find_entry(self.version()).stat()
            return status.st_ino, status.st_mtime_ns
        return None

    def _find_entry(self, version: int) -> Path:
        return Path(unquote(self.table_uri.removeprefix(_LOCAL))) / "_delta_log" / f"{version:020}.json"
