"""The board: where routes are published for the service, so that a lost ledger stops no prediction."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, ClassVar

import msgspec

from tidemill.core.route import Route
from tidemill.errors import TidemillError
from tidemill.journal.copying import exported, loaded
from tidemill.locks import lock_file


class FileBoard:
    """One JSON file for each model, replaced in one move."""

    writable: ClassVar[bool] = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def publish(self, route: Route) -> None:
        """Make a route the one that is served; an older version never replaces a newer one."""
        place = self._folder / f"{route.model}.json"
        try:
            with lock_file(self._folder / f".{route.model}.lock"):
                shown = self._read(place)
                if shown is not None and shown.version >= route.version:
                    return
                draft = self._folder / f".{route.model}.draft"
                draft.write_bytes(msgspec.json.encode(route))
                draft.replace(place)
        except OSError as refused:
            raise TidemillError(
                f"the route of {route.model!r} could not be published in {self._folder}: {refused.strerror}",
                "check free space and permissions; the route before it is still served",
            ) from None

    def routes(self) -> dict[str, Route]:
        """The published routes by model."""
        found = (self._read(file) for file in sorted(self._folder.glob("*.json")))
        return {route.model: route for route in found if route is not None}

    def export(self) -> Iterator[tuple[str, BinaryIO]]:
        """Each route's file, open until the next is asked for."""
        return exported(self._folder, sorted(self._folder.glob("*.json")))

    def load(self, files: Iterable[tuple[str, BinaryIO]]) -> None:
        """Fill an empty board from an export."""
        loaded(self._folder, files)

    def _read(self, file: Path) -> Route | None:
        try:
            return msgspec.json.decode(file.read_bytes(), type=Route)
        except FileNotFoundError:
            return None
