"""Back ends that exist only in the tests: an online store and a journal in the memory of a server process.

`memory://127.0.0.1:PORT/NAME` names a store; every process that opens it sees the same rows. They are plugged in as
another package would do it: by the entry points of a distribution (`plugged`).
"""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from multiprocessing.managers import BaseManager
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO, ClassVar
from urllib.parse import urlsplit

import msgspec
import polars as pl

from tidemill.errors import DataError

_KEY = b"tests"
_POINTS = """
[tidemill.online_stores]
memory = tests.compose.memory:MemoryOnline

[tidemill.journals]
memory = tests.compose.memory:MemoryJournal
"""


class _Latest:
    """In the server: the packed row of each view and entity."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._rows: dict[tuple[str, str], tuple[datetime, bytes]] = {}

    def write(self, view: str, rows: list[tuple[str, datetime, bytes]]) -> None:
        with self._lock:
            for entity, moment, values in rows:
                known = self._rows.get((view, entity))
                if known is None or known[0] <= moment:
                    self._rows[view, entity] = moment, values

    def rows(self) -> dict[tuple[str, str], tuple[datetime, bytes]]:
        with self._lock:
            return dict(self._rows)

    def read(self, view: str, entities: list[str]) -> list[tuple[datetime, bytes] | None]:
        with self._lock:
            return [self._rows.get((view, entity)) for entity in entities]

    def delete(self, view: str, entities: list[str]) -> None:
        with self._lock:
            for entity in entities:
                self._rows.pop((view, entity), None)


class _Segments:
    """In the server: the segments of each kind, by number."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._numbers = count()
        self._segments: dict[str, dict[int, bytes]] = {}

    def append(self, kind: str, content: bytes) -> None:
        with self._lock:
            self._segments.setdefault(kind, {})[next(self._numbers)] = content

    def of(self, kind: str) -> dict[int, bytes]:
        with self._lock:
            return dict(self._segments.get(kind, {}))

    def kinds(self) -> list[str]:
        with self._lock:
            return sorted(kind for kind, segments in self._segments.items() if segments)

    def replace(self, kind: str, numbers: list[int], content: bytes | None) -> bool:
        """Put one segment in the place of others, if they are all there."""
        with self._lock:
            segments = self._segments.get(kind, {})
            if not set(numbers) <= segments.keys():
                return False
            for number in numbers:
                del segments[number]
            if content is not None:
                segments[next(self._numbers)] = content
            return True


_STORES: dict[tuple[type, str], Any] = {}
_OPENING = Lock()


def _shared(kind: type, name: str) -> Any:
    with _OPENING:
        return _STORES.setdefault((kind, name), kind())


def _latest(name: str) -> Any:
    return _shared(_Latest, name)


def _segments(name: str) -> Any:
    return _shared(_Segments, name)


class _Server(BaseManager):
    """The server, and the way to it."""


_Server.register("latest", _latest)
_Server.register("segments", _segments)


@contextmanager
def memory_server() -> Iterator[str]:
    """Run a server for the block; yields the URL under which stores can be named."""
    server = _Server(("127.0.0.1", 0), _KEY)
    server.start()
    try:
        assert isinstance(server.address, tuple)
        yield f"memory://127.0.0.1:{server.address[1]}"
    finally:
        server.shutdown()


def write_distribution(folder: Path) -> None:
    """Install the back ends into a folder of `sys.path`: entry points, as a package has them."""
    about = folder / "memory_back_ends-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: memory-back-ends\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(_POINTS)


def _connected(url: str) -> tuple[Any, str]:
    address = urlsplit(url)
    server = _Server((address.hostname or "", address.port or 0), _KEY)
    server.connect()
    return server, address.path


class MemoryOnline:
    """The online store of a name, in the server's memory."""

    writable: ClassVar[bool] = True

    def __init__(self, url: str) -> None:
        server, name = _connected(url)
        self._latest = server.latest(name)

    def write(self, view: str, rows: Iterable[tuple[str, datetime, dict[str, Any]]]) -> None:
        self._latest.write(view, [(entity, at, msgspec.msgpack.encode(values)) for entity, at, values in rows])

    def read(self, view: str, entities: Sequence[str]) -> list[tuple[datetime, dict[str, Any]] | None]:
        found = self._latest.read(view, list(entities))
        return [(row[0], msgspec.msgpack.decode(row[1])) if row else None for row in found]

    def views(self) -> list[str]:
        return sorted({view for view, _ in self._latest.rows()})

    def erase(self, view: str, matches: Callable[[str], bool], *, dry_run: bool = False) -> int:
        gone = [entity for name, entity in self._latest.rows() if name == view and matches(entity)]
        if not dry_run:
            self._latest.delete(view, gone)
        return len(gone)

    def export(self) -> Iterator[tuple[str, BinaryIO]]:
        if rows := [(view, entity, *row) for (view, entity), row in self._latest.rows().items()]:
            yield "rows.msgpack", io.BytesIO(msgspec.msgpack.encode(rows))

    def load(self, files: Iterable[tuple[str, BinaryIO]]) -> None:
        for _, source in files:
            rows = msgspec.msgpack.decode(source.read(), type=list[tuple[str, str, datetime, bytes]])
            for view, entity, moment, values in rows:
                self._latest.write(view, [(entity, moment, values)])


class MemoryJournal:
    """The journal of a name, in the server's memory."""

    writable: ClassVar[bool] = True

    def __init__(self, url: str) -> None:
        server, name = _connected(url)
        self._segments = server.segments(name)

    def append(self, kind: str, frame: pl.DataFrame) -> None:
        if frame.is_empty():
            return
        if frame.schema.get("known_at") != pl.Datetime("us", "UTC") or frame["known_at"].null_count():
            raise DataError(f"rows for the journal {kind!r} have no UTC column 'known_at'", "fill it")
        self._segments.append(kind, _packed(frame))

    def read(self, kind: str, since: datetime | None = None, until: datetime | None = None) -> pl.DataFrame:
        parts = [pl.read_ipc(content) for content in self._segments.of(kind).values()]
        if not parts:
            return pl.DataFrame()
        rows = pl.concat(parts, how="diagonal_relaxed")
        if since is not None:
            rows = rows.filter(pl.col("known_at") > since)
        if until is not None:
            rows = rows.filter(pl.col("known_at") <= until)
        return rows.sort("known_at", maintain_order=True)

    def kinds(self) -> list[str]:
        found: list[str] = self._segments.kinds()
        return found

    def erase(
        self,
        kind: str,
        matches: Callable[[pl.DataFrame], pl.Series],
        until: datetime | None = None,
        *,
        dry_run: bool = False,
    ) -> int:
        while True:
            gone, numbers, left = 0, [], []
            for number, content in self._segments.of(kind).items():
                rows = pl.read_ipc(content)
                marked = matches(rows).fill_null(value=False)
                if until is not None:
                    marked &= rows["known_at"] <= until
                if marked.any():
                    numbers.append(number)
                    left.append(rows.filter(~marked))
                    gone += int(marked.sum())
            if dry_run or not numbers:
                return gone
            rest = pl.concat(left, how="diagonal_relaxed")
            if self._segments.replace(kind, numbers, _packed(rest) if rest.height else None):
                return gone

    def tidy(self, kind: str) -> None:
        self.erase(kind, lambda rows: pl.repeat(False, rows.height, dtype=pl.Boolean, eager=True))

    def export(self) -> Iterator[tuple[str, BinaryIO]]:
        for kind in self.kinds():
            for number, content in self._segments.of(kind).items():
                yield f"{kind}/{number}.arrow", io.BytesIO(content)

    def load(self, files: Iterable[tuple[str, BinaryIO]]) -> None:
        for name, source in files:
            self._segments.append(name.rpartition("/")[0], source.read())


def _packed(frame: pl.DataFrame) -> bytes:
    sink = io.BytesIO()
    frame.write_ipc(sink)
    return sink.getvalue()
