"""The board: the published routes and tokens. The service reads them instead of the ledger, so it works without it."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, ClassVar, TypeVar

import msgspec

from tidemill.core.route import Route
from tidemill.core.token import TokenList
from tidemill.errors import TidemillError
from tidemill.journal.copying import open_files, write_files
from tidemill.locks import lock_file

P = TypeVar("P", Route, TokenList)
_TOKENS = "access.tokens"


class FileBoard:
    """A JSON file for each model and one for the tokens, each replaced atomically."""

    writable: ClassVar[bool] = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def publish(self, route: Route) -> None:
        """Publish a route for the service; an older version never replaces a newer one."""
        self._replace(f"{route.model}.json", route, f"the route of model {route.model!r}", "the previous route")

    def routes(self) -> dict[str, Route]:
        """Return the published routes by model."""
        routes = (self._read(file, Route) for file in sorted(self._folder.glob("*.json")))
        return {route.model: route for route in routes if route is not None}

    def publish_tokens(self, tokens: TokenList) -> None:
        """Publish the tokens for the service; an older version never replaces a newer one."""
        self._replace(_TOKENS, tokens, "the list of tokens", "the previous list")

    def tokens(self) -> TokenList | None:
        """Return the published tokens; None if none were ever published."""
        return self._read(self._folder / _TOKENS, TokenList)

    def export(self) -> Iterator[tuple[str, BinaryIO]]:
        """Iterate over the files of the routes and the tokens, each open until the next is requested."""
        return open_files(self._folder, sorted((*self._folder.glob("*.json"), *self._folder.glob(_TOKENS))))

    def load(self, files: Iterable[tuple[str, BinaryIO]]) -> None:
        """Fill an empty board from an export."""
        write_files(self._folder, files)

    def _replace(self, name: str, record: P, what: str, previous: str) -> None:
        file, stem = self._folder / name, name.rpartition(".")[0]
        try:
            with lock_file(self._folder / f".{stem}.lock"):
                published = self._read(file, type(record))
                if published is not None and published.version >= record.version:
                    return
                draft = self._folder / f".{stem}.draft"
                draft.write_bytes(msgspec.json.encode(record))
                draft.replace(file)
        except OSError as error:
            raise TidemillError(
                f"{what} could not be published in {self._folder}: {error.strerror}",
                f"check free space and permissions; {previous} is still in force",
            ) from None

    def _read(self, file: Path, kind: type[P]) -> P | None:
        try:
            return msgspec.json.decode(file.read_bytes(), type=kind)
        except FileNotFoundError:
            return None
