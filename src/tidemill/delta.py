"""Delta tables whose files are called by the paths that they have."""

from typing import Any
from urllib.parse import unquote

from deltalake import DeltaTable


class LocalTable(DeltaTable):
    """A Delta table; Delta itself calls the files of a local folder as in a URL."""

    def file_uris(self, *args: Any, **kwargs: Any) -> list[str]:
        """Where its files are; paths on this machine, also where the folder's name has a space or an umlaut."""
        uris = super().file_uris(*args, **kwargs)
        if not self.table_uri.startswith("file://"):
            return uris
        folder = self.table_uri.removeprefix("file://")
        return [unquote(folder) + uri.removeprefix(folder) for uri in uris]
