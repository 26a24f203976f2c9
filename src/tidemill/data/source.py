"""Sources: the batches in which rows arrive, and the histories that feature views look back on."""

import glob
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

import polars as pl

from tidemill.core.feature import FeatureView
from tidemill.core.policy import Source
from tidemill.core.resources import Batch
from tidemill.core.schema import Schema
from tidemill.data.frame import KNOWN_AT, TIME, in_time, read_table
from tidemill.data.schema_file import read_schema
from tidemill.errors import DataError, NotFound

_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)


class FileSources:
    """Files of the project: each file that fits a source's path is one batch, arrived when it was written."""

    writable: ClassVar[bool] = False

    def __init__(self, folder: Path, sources: dict[str, Source]) -> None:
        self.folder = folder
        self._sources = sources
        self._histories: dict[tuple[str, ...], pl.DataFrame] = {}

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
        """The files of a source that were there by `until`, oldest first.

        Raises
        ------
        DataError
            if no file fits its path.
        """
        pattern = str(self.folder / self.definition(source).path)
        files = [Path(name) for name in glob.glob(pattern, recursive=True)]  # noqa: PTH207 - pathlib globs no absolute
        if not files:
            raise DataError(f"no file fits the path of source {source!r}: {pattern}", "check `path` in tidemill.toml")
        found = [_batch(source, file) for file in files]
        return sorted((b for b in found if b.known_at <= until), key=lambda b: (b.known_at, b.path))

    def read(self, batch: Batch) -> pl.DataFrame:
        """The rows of a batch, with `_time` and `_known_at`, null where they cannot be read: a check tells of that."""
        return in_time(self.raw(batch), self.definition(batch.source), batch.source, batch.known_at, lenient=True)

    def raw(self, batch: Batch) -> pl.DataFrame:
        """The rows of a batch as they are in its file."""
        return read_table(Path(batch.path), self.definition(batch.source).format, empty=True)

    def history(self, view: FeatureView, until: datetime) -> pl.DataFrame:
        """The rows of a view's source that were known by `until`.

        A source without a time is a register: its rows hold at any time.
        """
        return self.history_of(view.source).filter(pl.col(KNOWN_AT) <= until)

    def history_of(self, source: str) -> pl.DataFrame:
        """All rows of a source, with `_time` and `_known_at`; read again only when its files change."""
        batches = self.batches(source, datetime.max.replace(tzinfo=UTC))
        place = tuple(batch.id for batch in batches)
        if place not in self._histories:
            definition = self.definition(source)
            read = [in_time(self.raw(batch), definition, source, batch.known_at) for batch in batches]
            rows = pl.concat(read, how="diagonal_relaxed")
            if not definition.time:
                always = pl.lit(_ALWAYS).cast(rows.schema[TIME])
                rows = rows.with_columns(always.alias(TIME), always.alias(KNOWN_AT))
            self._histories[place] = rows
        return self._histories[place]


def _batch(source: str, file: Path) -> Batch:
    status = file.stat()
    version = hashlib.sha256(f"{file.name} {status.st_size} {status.st_mtime_ns}".encode()).hexdigest()[:16]
    arrived = datetime.fromtimestamp(status.st_mtime_ns / 1e9, UTC)
    return Batch(id=f"{source}/{file.name}@{version}", source=source, known_at=arrived, path=str(file))
