"""Delta tables whose files are called by the paths that they have."""

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from deltalake import DeltaTable

from tidemill.errors import InputError

_LOCAL = "file://"
_UNUSABLE = re.compile(r"[\[\]^|\\]|%[0-9A-Fa-f]{2}")


def require_usable_folder(folder: Path) -> None:
    """Raise `InputError` if no Delta table can be in a folder, because of the characters in its path."""
    if found := _UNUSABLE.search(str(folder.resolve())):
        raise InputError(
            f"the path {folder.resolve()} contains {found[0]!r}: it can contain no tables of rows",
            "use a folder whose path has none of [ ] ^ | \\, and no code such as %41",
        )


class LocalTable(DeltaTable):
    """A Delta table; Delta itself calls the files of a local folder as in a URL."""

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
        log, version = Path(unquote(self.table_uri.removeprefix(_LOCAL))) / "_delta_log", self.version()
        # The entry of this version too: a log that was cleaned up or replaced has to be read.
        return (log / f"{version:020}.json").exists() and not (log / f"{version + 1:020}.json").exists()
