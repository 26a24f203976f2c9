"""The board: the published routes. The service reads them instead of the ledger, so it works without the ledger."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, ClassVar

import msgspec

from tidemill.core.route import Route
from tidemill.errors import TidemillError
from tidemill.journal.copying import open_files, write_files
from tidemill.locks import lock_file


class FileBoard:
    """A JSON file for each model, replaced atomically."""

    writable: ClassVar[bool] = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def publish(self, route: Route) -> None:
        """Publish a route for the service; an older version never replaces a newer one."""
        file = self._folder / f"{route.model}.json"
        try:
            with lock_file(self._folder / f".{route.model}.lock"):
                published = self._read(file)
                if published is not None and published.version >= route.version:
                    return
                draft = self._folder / f".{route.model}.draft"
                draft.write_bytes(msgspec.json.encode(route))
                draft.replace(file)
        except OSError as error:
            raise TidemillError(
                f"the route of model {route.model!r} could not be published in {self._folder}: {error.strerror}",
                "check free space and permissions; the previous route is still served",
            ) from None

    def routes(self) -> dict[str, Route]:
        """Return the published routes by model."""
        routes = (self._read(file) for file in sorted(self._folder.glob("*.json")))
        return {route.model: route for route in routes if route is not None}

    def export(self) -> Iterator[tuple[str, BinaryIO]]:
        """Iterate over the files of the routes, each open until the next is requested."""
        return open_files(self._folder, sorted(self._folder.glob("*.json")))

    def load(self, files: Iterable[tuple[str, BinaryIO]]) -> None:
        """Fill an empty board from an export."""
        write_files(self._folder, files)

    def _read(self, file: Path) -> Route | None:
        try:
            return msgspec.json.decode(file.read_bytes(), type=Route)
        except FileNotFoundError:
            return None
