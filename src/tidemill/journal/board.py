"""The board: the published routes and tokens. The service reads them instead of the ledger, so it works without it."""

import errno
import io
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, ClassVar, TypeVar

from tidemill.core.damage import Damage, DamageState
from tidemill.core.route import Route
from tidemill.core.token import TokenList
from tidemill.durable import replace_durably
from tidemill.errors import Corrupt, TidemillError
from tidemill.journal.copying import write_files
from tidemill.journal.names import DAMAGED
from tidemill.journal.sealed import seal, unseal
from tidemill.locks import lock_file
from tidemill.presence import IDENTITY, StoreFolder, StoreMark
from tidemill.telemetry import get_logger

log = get_logger("journal")
P = TypeVar("P", Route, TokenList)
STORE = "board"
_TOKENS = "access.tokens"
_CURE = "`tidemill doctor --mend` writes it again from the ledger"


class FileBoard:
    """A JSON file for each model and one for the tokens, each replaced atomically and verified when it is read.

    A damaged file is set aside under the name `NAME.damaged` until it is published again. The route of its model is
    absent then, and the other models are not affected; damaged tokens are an error, because no tokens would mean that
    everybody has access. A mark beside each file shows that it was published, so that a deleted one is missed.
    """

    writable: ClassVar[bool] = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._store = StoreFolder(folder, "the board")
        self._marks: dict[Path, StoreMark] = {}
        self._missed: set[Path] = set()

    def publish(self, route: Route, *, replaces: str = "") -> None:
        """Publish a route for the service; an older version never replaces a newer one.

        A published route with the id `replaces` is replaced whatever its version is.
        """
        what = f"the route of model {route.model!r}"
        self._replace(f"{route.model}.json", route, what, "the previous route", replaces)

    def routes(self) -> dict[str, Route]:
        """Return the published routes by model, without those whose files are damaged."""
        self._store.require()
        routes = {}
        for file in sorted(
            {*self._folder.glob("*.json"), *(file for file in self._list_lost() if file.suffix == ".json")}
        ):
            with suppress(Corrupt):
                route = self._read(file, Route)
                if route is not None:
                    routes[route.model] = route
        return routes

    def publish_tokens(self, tokens: TokenList) -> None:
        """Publish the tokens for the service; an older version never replaces a newer one."""
        self._replace(_TOKENS, tokens, "the list of tokens", "the previous list")

    def tokens(self) -> TokenList | None:
        """Return the published tokens; None if none were ever published.

        Raises
        ------
        Corrupt
            if their file is damaged.
        """
        self._store.require()
        file = self._folder / _TOKENS
        tokens = self._read(file, TokenList)
        if tokens is None and _aside(file).exists():
            raise Corrupt(f"the list of tokens {file} is damaged and set aside", _CURE)
        return tokens

    def check(self) -> Iterator[Damage]:
        """Read and verify every file; set damaged ones aside, and yield them."""
        self.routes()
        with suppress(Corrupt):
            self.tokens()
        yield from self.damages()

    def damages(self) -> list[Damage]:
        """Return the files that are set aside or not readable."""
        if not self._store.exists():
            return []
        damages = [_report(file.name, "missing", "was published and is gone", _CURE) for file in self._list_lost()]
        for file in sorted(self._folder.iterdir()):
            name = file.name.removesuffix(DAMAGED)
            if file.name.endswith(DAMAGED):
                damages.append(_report(name, "damaged", "is damaged and set aside", _CURE))
            elif (file.suffix == ".json" or name == _TOKENS) and not _is_readable(file):
                damages.append(_report(name, "unreadable", "cannot be read", "check its permissions"))
        return damages

    def export(self) -> Iterator[tuple[str, BinaryIO]]:
        """Iterate over the files of the routes and the tokens, each verified and open until the next is requested."""
        self._store.require()
        for file in sorted((*self._folder.glob("*.json"), *self._folder.glob(_TOKENS))):
            with suppress(Corrupt, FileNotFoundError):
                content = file.read_bytes()
                unseal(file, content, TokenList if file.name == _TOKENS else Route)
                yield file.name, io.BytesIO(content)

    def load(self, files: Iterable[tuple[str, BinaryIO]]) -> None:
        """Fill an empty board from an export."""
        write_files(self._store, files)

    def _replace(self, name: str, record: P, what: str, previous: str, replaces: str = "") -> None:
        file, stem = self._folder / name, name.rpartition(".")[0]
        try:
            self._store.create()
            with lock_file(self._lock(file)):
                published = None
                with suppress(Corrupt):  # it is replaced
                    published = self._parse(file, type(record))
                is_replaced = isinstance(published, Route) and published.id == replaces
                if published is not None and published.version >= record.version and not is_replaced:
                    return
                replace_durably(file, self._folder / f".{stem}.draft", seal(name, record))
                self._mark(file).set()
                self._missed.discard(file)
                _aside(file).unlink(missing_ok=True)
        except OSError as error:
            raise TidemillError(
                f"{what} could not be published in {self._folder}: {error.strerror}",
                f"check free space and permissions; {previous} is still in force",
            ) from None

    def _mark(self, file: Path) -> StoreMark:
        return self._marks.setdefault(file, StoreMark(file))

    def _list_lost(self) -> list[Path]:
        """Return the files that were published and are neither there nor set aside."""
        names = (mark.name.removesuffix(IDENTITY)[1:] for mark in self._folder.glob(f".*{IDENTITY}"))
        files = (self._folder / name for name in sorted(names) if name)
        return [file for file in files if not file.exists() and not _aside(file).exists()]

    def _lock(self, file: Path) -> Path:
        return file.with_name(f".{file.name.rpartition('.')[0]}.lock")

    def _read(self, file: Path, kind: type[P]) -> P | None:
        """Return the record in a file, None if there is no file; set a damaged file aside and raise `Corrupt`."""
        try:
            return self._parse(file, kind)
        except Corrupt as damage:
            if _is_readable(file):
                self._set_aside(file, kind, damage)
            elif file not in self._missed:
                self._missed.add(file)
                log.error("%s", damage.problem)
            raise

    def _parse(self, file: Path, kind: type[P]) -> P | None:
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            if not self._mark(file).is_set or _aside(file).exists():
                return None
            raise Corrupt(f"{file} was published and is gone", _CURE) from None
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR):
                raise
            raise Corrupt(f"{file} cannot be read: {error.strerror}", "check its permissions and the disk") from None
        self._mark(file).set()
        record = unseal(file, content, kind)
        if isinstance(record, Route) and f"{record.model}.json" != file.name:
            raise Corrupt(f"{file} has the route of model {record.model!r}", _CURE)
        return record

    def _set_aside(self, file: Path, kind: type[P], damage: Corrupt) -> None:
        try:
            with lock_file(self._lock(file)):
                with suppress(Corrupt):  # it was published again meanwhile
                    self._parse(file, kind)
                    return
                file.replace(_aside(file))
        except FileNotFoundError:
            return
        except OSError as error:
            log.error("%s; it cannot be set aside: %s", damage.problem, error.strerror)
            return
        log.error("%s; it is set aside as %s until it is published again", damage.problem, _aside(file).name)


def _aside(file: Path) -> Path:
    return file.with_name(file.name + DAMAGED)


def _is_readable(file: Path) -> bool:
    try:
        file.open("rb").close()
    except OSError:
        return False
    return True


def _report(name: str, state: DamageState, problem: str, cure: str) -> Damage:
    return Damage(store=STORE, name=name, state=state, problem=problem, cure=cure)
