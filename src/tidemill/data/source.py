"""Sources: the batches in which rows arrive, and the histories that feature views look back on."""

import os
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import polars as pl

from tidemill.core.batch import Batch
from tidemill.core.feature import FeatureView
from tidemill.core.schema import Schema
from tidemill.core.source import Source
from tidemill.data.frame import KNOWN_AT, TIME, add_times
from tidemill.data.kinds.delta import DeltaSource
from tidemill.data.kinds.files import LocalFiles, RemoteObjects
from tidemill.data.kinds.frames import FrameSource
from tidemill.data.kinds.kind import SourceKind, number_batches
from tidemill.data.kinds.queries import DuckDbEngine, QuerySource, SqlEngine
from tidemill.data.schema_file import read_schema
from tidemill.errors import ConfigurationError, DataError, NotFound

_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
_OBJECTS = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "https", "http", "memory")
_SCHEME = re.compile(r"^([A-Za-z][\w.+-]*)://")
_VARIABLE = re.compile(r"\$\{(\w+)\}")


class FileSources:
    """The project's sources: files, objects, Delta tables, queries, and `frames` in hand, which come before these.

    `admitted` gives the ids of the batches that were let in before: they tell whether rows that came back are new.

    Raises
    ------
    NotFound
        for a frame of no source.
    DataError
        for what is no frame.
    """

    writable: ClassVar[bool] = False

    def __init__(
        self,
        folder: Path,
        sources: dict[str, Source],
        frames: Mapping[str, Any] | None = None,
        admitted: Callable[[], set[str]] = set,
    ) -> None:
        self.folder = folder
        self._sources = sources
        self._kinds: dict[str, tuple[Source, SourceKind]] = {}
        for name in frames or {}:
            self.definition(name)
        self._frames = {name: FrameSource(name, frame) for name, frame in (frames or {}).items()}
        self._admitted = admitted
        self._histories: dict[tuple[str, ...], pl.DataFrame] = {}

    @property
    def declared(self) -> str:
        """What `tidemill.toml` says the rows mean, for cache keys: times, keys, and what is known later."""
        return repr([(name, source.meaning) for name, source in sorted(self._sources.items())])

    def definition(self, source: str) -> Source:
        """What `tidemill.toml` says of a source; raises `NotFound`."""
        if source not in self._sources:
            raise NotFound(f"no source is called {source!r}", f"tidemill.toml defines: {', '.join(self._sources)}")
        return self._sources[source]

    def schema(self, source: str) -> Schema | None:
        """The schema that the project's file declares, if it does."""
        name = self.definition(source).schema
        return read_schema(self.folder / name) if name else None

    def batches(self, source: str, until: datetime) -> list[Batch]:
        """The batches of a source that were there by `until`, oldest first.

        Raises
        ------
        DataError
            if it cannot be reached, or nothing fits its path.
        """
        batches = sorted(self._kind(source).batches(until), key=lambda batch: (batch.known_at, batch.path))
        return number_batches(batches, self._admitted())

    def read(self, batch: Batch) -> pl.DataFrame:
        """The rows of a batch, with `_time` and `_known_at`, null where they cannot be read: a check tells of that."""
        return add_times(self.raw(batch), self.definition(batch.source), batch.source, batch.known_at, lenient=True)

    def raw(self, batch: Batch) -> pl.DataFrame:
        """The rows of a batch as they are in the source."""
        return self._kind(batch.source).rows(batch)

    def _kind(self, source: str) -> SourceKind:
        definition = self.definition(source)
        known = self._kinds.get(source)
        if known is None or known[0] != definition:
            kind = self._frames.get(source) or create_source_kind(source, definition, self.folder, self._admitted)
            known = self._kinds[source] = definition, kind
        return known[1]

    def history(self, view: FeatureView, until: datetime) -> pl.DataFrame:
        """The rows of a view's source that were known by `until`.

        A source without a time is a register: its rows hold at any time.
        """
        return self.source_history(view.source).filter(pl.col(KNOWN_AT) <= until)

    def source_history(self, source: str) -> pl.DataFrame:
        """All rows of a source, with `_time` and `_known_at`; read again only when its files change."""
        batches = self.batches(source, datetime.max.replace(tzinfo=UTC))
        place = tuple(batch.id for batch in batches)
        if place not in self._histories:
            definition = self.definition(source)
            read = [add_times(self.raw(batch), definition, source, batch.known_at) for batch in batches]
            if not read:
                raise DataError(f"source {source!r} has no rows yet", "wait for the first")
            rows = pl.concat(read, how="diagonal_relaxed")
            if not definition.time:
                always = pl.lit(_ALWAYS).cast(rows.schema[TIME])
                rows = rows.with_columns(always.alias(TIME), always.alias(KNOWN_AT))
            self._histories[place] = rows
        return self._histories[place]


def create_source_kind(name: str, source: Source, folder: Path, admitted: Callable[[], set[str]] = set) -> SourceKind:
    """What reads a source: by its `kind`, or else by the form of its path."""
    path = _VARIABLE.sub(_variable, source.path)
    scheme = (_SCHEME.match(path) or [""] * 2)[1].lower()
    kind = source.kind or _guess(source, path, scheme, folder)
    if kind == "sql":
        beside = _beside(path, folder)
        # Where it is within the project is its name: the project may be moved.
        return QuerySource(name, source, SqlEngine(beside, path if beside != path else ""))
    if kind == "duckdb":
        return QuerySource(name, source, DuckDbEngine(path, folder))
    if kind == "delta":
        return DeltaSource(name, path if scheme else str(folder / path), admitted, path)
    here = Source(path=path, format=source.format)
    return RemoteObjects(name, here) if scheme in _OBJECTS else LocalFiles(name, here, folder)


def _guess(source: Source, path: str, scheme: str, folder: Path) -> str:
    if scheme and scheme not in _OBJECTS:
        return "sql"
    if source.query or source.table:
        return "duckdb"
    return "delta" if not scheme and (folder / path / "_delta_log").is_dir() else "files"


def _beside(url: str, folder: Path) -> str:
    """A URL of SQLite with a relative path is relative to the project."""
    form, found, path = url.partition(":///")
    relative = form.startswith("sqlite") and found and path and not path.startswith("/")
    return f"{form}:///{folder / path}" if relative else url


def _variable(found: re.Match[str]) -> str:
    name = found[1]
    if name not in os.environ:
        raise ConfigurationError(f"the path of a source needs the environment variable {name}", f"export {name}=…")
    return os.environ[name]
