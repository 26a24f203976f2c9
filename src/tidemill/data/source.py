"""Sources: the batches in which rows arrive, and the histories that feature views look back on."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
from msgspec.structs import replace

from tidemill.core.batch import Batch
from tidemill.core.feature import FeatureView
from tidemill.core.schema import ColumnType, Schema
from tidemill.core.source import Source
from tidemill.credentials import fill_secrets, hide_url
from tidemill.data.frame import KNOWN_AT, TIME, add_times
from tidemill.data.identity import add_row_ids, stack_batches
from tidemill.data.kinds.delta import DeltaSource
from tidemill.data.kinds.files import LocalFiles, RemoteObjects
from tidemill.data.kinds.frames import FrameSource
from tidemill.data.kinds.kind import SourceKind, number_batches
from tidemill.data.kinds.queries import DuckDbEngine, QuerySource, SqlEngine
from tidemill.data.reading.values import type_typed_columns
from tidemill.data.schema_file import read_schema
from tidemill.data.spellings import Spellings, unify_columns
from tidemill.data.types import column_type
from tidemill.errors import DataError, NotFound

_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
_OBJECTS = ("s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "https", "http", "memory")
_SCHEME = re.compile(r"^([A-Za-z][\w.+-]*)://")


class FileSources:
    """The project's sources: files, objects, Delta tables, queries, and `frames` in hand, which come before these.

    `accepted` returns the ids of the accepted batches: a batch that differs from the last one of its path is new.
    `withdrawn` returns the ids of the batches that a person has withdrawn: they are not listed. `labels` are the label
    columns of each source with the spellings of their classes. `schemas` returns the accepted schema of a source,
    None before the first. Relative paths start in the folder `data`, by default in the folder of the project.

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
        accepted: Callable[[], set[str]] = set,
        withdrawn: Callable[[], set[str]] = set,
        labels: Mapping[str, Mapping[str, Spellings]] | None = None,
        schemas: Callable[[str], Schema | None] = lambda _: None,
        data: Path | None = None,
    ) -> None:
        self.folder = folder
        self._data = data or folder
        self._sources = sources
        self._kinds: dict[str, tuple[Source, SourceKind]] = {}
        for name in frames or {}:
            self.definition(name)
        self._frames = {name: FrameSource(name, frame) for name, frame in (frames or {}).items()}
        self._accepted = accepted
        self._withdrawn = withdrawn
        self._labels = labels or {}
        self._schemas = schemas
        self._histories: dict[tuple[object, ...], pl.DataFrame] = {}

    @property
    def declared(self) -> str:
        """The definitions of the sources in `tidemill.toml`, for cache keys: times, keys, and later columns."""
        spellings = {name: columns for name, columns in self._labels.items() if any(columns.values())}
        meanings = [(name, source.meaning) for name, source in sorted(self._sources.items())]
        return repr(meanings) + (repr(sorted(spellings.items())) if spellings else "")

    def definition(self, source: str) -> Source:
        """Return the definition of a source in `tidemill.toml`; raise `NotFound`."""
        if source not in self._sources:
            raise NotFound(f"no source is called {source!r}", f"tidemill.toml defines: {', '.join(self._sources)}")
        return self._sources[source]

    def schema(self, source: str) -> Schema | None:
        """The schema that the project's file declares, if it does."""
        name = self.definition(source).schema
        return read_schema(self.folder / name) if name else None

    def labels(self, source: str) -> Mapping[str, Spellings]:
        """Return the label columns of a source, each with the spellings of its classes."""
        return self._labels.get(source, {})

    def batches(self, source: str, until: datetime) -> list[Batch]:
        """Return the batches of a source that existed by `until`, oldest first.

        Raises
        ------
        DataError
            if the source cannot be reached, or no file matches its path.
        """
        batches = sorted(self._kind(source).batches(until), key=lambda batch: (batch.known_at, batch.path))
        numbered, withdrawn = number_batches(batches, self._accepted()), self._withdrawn()
        return [batch for batch in numbered if batch.id not in withdrawn]

    def read(self, batch: Batch) -> pl.DataFrame:
        """Return the rows of a batch with their times, null where unreadable: a check reports those."""
        return add_times(self.raw(batch), self.definition(batch.source), batch.source, batch.known_at, lenient=True)

    def open_parts(self, batch: Batch) -> Callable[[], Iterator[pl.DataFrame]] | None:
        """Return a function that iterates over the rows of a file that is too large to be read at once.

        It can be called again. None if the batch is no file on this machine that can be read in parts.

        Raises
        ------
        Unreadable
            if the file cannot be read.
        """
        kind, definition = self._kind(batch.source), self.definition(batch.source)
        if not isinstance(kind, LocalFiles) or (open_again := kind.open_parts(batch)) is None:
            return None

        def iterate() -> Iterator[pl.DataFrame]:
            for rows in open_again():
                unified = unify_columns(rows, self.labels(batch.source))
                yield add_times(unified, definition, batch.source, batch.known_at, lenient=True)

        return iterate

    def raw(self, batch: Batch) -> pl.DataFrame:
        """Return the rows of a batch, with the declared nulls, date formats and spellings of classes."""
        rows, dialect = self._kind(batch.source).rows(batch), self.definition(batch.source).dialect
        if not isinstance(self._kind(batch.source), LocalFiles | RemoteObjects):
            rows = type_typed_columns(rows, dialect, infer=False)
        return unify_columns(rows, self.labels(batch.source))

    def _kind(self, source: str) -> SourceKind:
        definition = self.definition(source)
        cached = self._kinds.get(source)
        if cached is None or cached[0] != definition:
            kind = self._frames.get(source) or create_source_kind(source, definition, self._data, self._accepted)
            cached = self._kinds[source] = definition, kind
        return cached[1]

    def history(self, view: FeatureView, until: datetime) -> pl.DataFrame:
        """Return the rows of a view's source that were known by `until`.

        A source without a time is a register: its rows are valid at any time.
        """
        return self.source_history(view.source).filter(pl.col(KNOWN_AT) <= until)

    def source_history(self, source: str) -> pl.DataFrame:
        """Return all rows of a source with their times, and the id of the row of which each is a version.

        They are read again only when the files of the source change.
        """
        batches = self.batches(source, datetime.max.replace(tzinfo=UTC))
        types = self._find_types(source)
        state = (*(batch.id for batch in batches), *sorted(types.items()))
        if state not in self._histories:
            definition = self.definition(source)
            read = [add_times(rows, definition, source, arrived) for rows, arrived in self._read_all(batches, types)]
            if not read:
                raise DataError(f"source {source!r} has no rows yet", "wait for the first")
            rows = stack_batches(read)
            if not definition.time:
                always = pl.lit(_ALWAYS).cast(rows.schema[TIME])
                rows = rows.with_columns(always.alias(TIME), always.alias(KNOWN_AT))
            self._histories[state] = add_row_ids(rows, definition)
        return self._histories[state]

    def _find_types(self, source: str) -> dict[str, ColumnType]:
        """Return the types of the schema in force; empty before the first ingestion of a source without a schema."""
        accepted, declared = self._schemas(source), self.schema(source)
        newest = max(filter(None, (accepted, declared)), key=lambda schema: schema.version, default=None)
        return newest.types if newest else {}

    def _read_all(
        self, batches: Iterable[Batch], types: Mapping[str, ColumnType]
    ) -> Iterator[tuple[pl.DataFrame, datetime]]:
        """Yield the rows of batches and their arrival as an ingestion reads them: the first values decide the types."""
        known = dict(types)
        for batch in batches:
            rows = self.raw(replace(batch, types=known or None))
            yield rows, batch.known_at
            for values in rows:
                if values.name not in known and values.null_count() < len(values):
                    known[values.name] = column_type(values.dtype)


def create_source_kind(name: str, source: Source, folder: Path, accepted: Callable[[], set[str]] = set) -> SourceKind:
    """Return the reader of a source: by its `kind`, or else by the form of its path."""
    path = fill_secrets(source.path, "the path of a source")
    scheme = (_SCHEME.match(path) or [""] * 2)[1].lower()
    kind = source.kind or _guess(source, path, scheme, folder)
    if kind == "sql":
        beside = _beside(path, folder)
        # The path relative to the project identifies the database, so that the project can be moved.
        return QuerySource(name, source, SqlEngine(beside, path if beside != path else ""))
    if kind == "duckdb":
        return QuerySource(name, source, DuckDbEngine(path, folder))
    if kind == "delta":
        return DeltaSource(name, path if scheme else str(folder / path), accepted, hide_url(path))
    here = replace(source, path=path)
    return RemoteObjects(name, here) if scheme in _OBJECTS else LocalFiles(name, here, folder)


def _guess(source: Source, path: str, scheme: str, folder: Path) -> str:
    if scheme and scheme not in _OBJECTS:
        return "sql"
    if source.query or source.table:
        return "duckdb"
    return "delta" if not scheme and (folder / path / "_delta_log").is_dir() else "files"


def _beside(url: str, folder: Path) -> str:
    """A URL of SQLite with a relative path is relative to the project."""
    form, separator, path = url.partition(":///")
    relative = form.startswith("sqlite") and separator and path and not path.startswith("/")
    return f"{form}:///{folder / path}" if relative else url
