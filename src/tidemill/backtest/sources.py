"""Sources of a replay: the history, delivered batch by batch as it arrived, with the planted deliveries."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import polars as pl
from msgspec import json

from tidemill.clock import parse_duration
from tidemill.core.backtest import Backtest
from tidemill.core.batch import Batch
from tidemill.core.columns import ARRIVAL, PREFIX, ROW_ID, TIME
from tidemill.core.feature import FeatureSet, FeatureView
from tidemill.core.resources import Features, RecordedSources
from tidemill.core.schema import Schema
from tidemill.core.source import Source
from tidemill.data.frame import add_times
from tidemill.data.identity import drop_corrected_rows
from tidemill.data.tables import read_table
from tidemill.errors import DataError, InputError
from tidemill.locks import lock_file

ROW = f"{PREFIX}row"
_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)


class ReplaySources:
    """The project's sources at a virtual time: the replayed source returns only the batches delivered by then.

    `rows` is the whole history in the order of the replay, `original` in its recorded order; the column `ROW` is a
    row's index in `original`, and its text is the row's id, with and without a key. Of a corrected row the newest
    version counts.
    """

    writable: ClassVar[bool] = False

    def __init__(self, folder: Path, files: RecordedSources, source: str, start: datetime, options: Backtest) -> None:
        self._folder = folder
        self._files = files
        self._source = source
        self._start = start
        self._planted = {delivery.day: delivery for delivery in options.planted if delivery.source == source}
        definition = files.definition(source)
        if not definition.time:
            raise InputError(
                f"source {source!r} has no time, so its history cannot be replayed",
                f'set the column of the event time: [sources.{source}] time = "…"',
            )
        history = drop_corrected_rows(files.source_history(source))
        if timeless := history[TIME].null_count():
            raise DataError(
                f"{timeless} rows of source {source!r} have no event time, so they cannot be replayed",
                f"fill their {definition.time!r}, or remove these rows",
            )
        ordered = history.drop(ARRIVAL).sort(TIME, maintain_order=True).with_row_index(ROW)
        self.original = ordered.with_columns(pl.col(ROW).cast(pl.String).alias(ROW_ID))
        self.rows = shuffle_rows(self.original, options.seed) if options.shuffle else self.original
        self._delivery = parse_duration(definition.delivery or "1d")
        self._index = TimeIndex(self.rows, TIME)
        self._batches = self._list_batches()

    def _list_batches(self) -> list[Batch]:
        """Return one batch with the rows before the start, then one batch for each delivery span, one span later.

        A span without rows has no delivery, such as the days between the rows of a week, unless one is planted.
        """
        first, last = self.rows[TIME][0], self.rows[TIME][-1]
        batches = []
        if first < self._start:
            batches.append(
                Batch(id=f"{self._source}/history", source=self._source, known_at=self._start, path="history")
            )
        begin = self._start
        while begin <= last:
            day, timestamp, arrives = begin.date().isoformat(), begin.isoformat(), begin + self._delivery
            planted = self._planted.get(day) if begin - self._delivery < _floor_to_midnight(begin) else None
            name = f"{self._source}/{timestamp if self._delivery % _DAY else day}"
            path = planted.path if planted else timestamp
            if planted or self._index.select(begin, arrives).height:
                batches.append(Batch(id=name, source=self._source, known_at=arrives, path=path))
            if planted and planted.repaired:
                repaired_at = arrives + parse_duration(planted.repaired)
                batches.append(Batch(id=f"{name}-repaired", source=self._source, known_at=repaired_at, path=timestamp))
            begin = arrives
        return sorted(batches, key=lambda batch: batch.known_at)

    @property
    def deliveries(self) -> list[datetime]:
        """The times at which batches arrive."""
        return [batch.known_at for batch in self._batches]

    @property
    def declared(self) -> str:
        return self._files.declared

    def definition(self, source: str) -> Source:
        return self._files.definition(source)

    def schema(self, source: str) -> Schema | None:
        return self._files.schema(source)

    def labels(self, source: str) -> Mapping[str, Mapping[str, str]]:
        return self._files.labels(source)

    def batches(self, source: str, until: datetime) -> list[Batch]:
        if source != self._source:
            return list(self._files.batches(source, until))
        return [batch for batch in self._batches if batch.known_at <= until]

    def open_parts(self, batch: Batch) -> Callable[[], Iterator[pl.DataFrame]] | None:
        return self._files.open_parts(batch) if batch.source != self._source else None

    def read(self, batch: Batch) -> pl.DataFrame:
        if batch.source != self._source:
            return self._files.read(batch)
        if batch.path == "history":
            return self.rows.filter(pl.col(TIME) < self._start)
        if batch.path in {planted.path for planted in self._planted.values()}:
            definition = self.definition(self._source)
            file, dialect = self._folder / batch.path, definition.dialect
            rows = read_table(file, definition.format, dialect=dialect, empty=True, types=batch.types)
            return add_times(rows, definition, self._source, batch.known_at, lenient=True)
        begin = datetime.fromisoformat(batch.path)
        return self._index.select(begin, begin + self._delivery)

    def history(self, view: FeatureView, until: datetime) -> pl.DataFrame:
        return self._files.history(view, until)


def _floor_to_midnight(time: datetime) -> datetime:
    return time.replace(hour=0, minute=0, second=0, microsecond=0)


class TimeIndex:
    """The rows of a frame that is sorted by a column of times, by ranges of times."""

    def __init__(self, rows: pl.DataFrame, column: str) -> None:
        self._rows = rows
        self._times = rows[column].dt.epoch("us").to_numpy()

    def select(self, begin: datetime, end: datetime, side: Literal["left", "right"] = "left") -> pl.DataFrame:
        """Return the rows with a time in [begin, end); with the side `right`, in (begin, end]."""
        bounds = [(time - _EPOCH) // _MICROSECOND for time in (begin, end)]
        first, last = np.searchsorted(self._times, bounds, side)
        return self._rows[int(first) : int(last)]


def select_between(rows: pl.DataFrame, begin: datetime, end: datetime) -> pl.DataFrame:
    """Return the rows with an event time in [begin, end); `rows` are sorted by event time."""
    return TimeIndex(rows, TIME).select(begin, end)


def shuffle_rows(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """Return the rows with their event times exchanged at random, so that the data do not change over time.

    The number of rows at each time stays the same. The other timestamps of a row (for example when its label was known)
    keep their distance from its event time.
    """
    order = np.random.default_rng(seed).permutation(rows.height)
    permuted = rows[order]
    shift = rows[TIME] - permuted[TIME]
    timestamps = [name for name, kind in rows.schema.items() if isinstance(kind, pl.Datetime)]
    return permuted.with_columns(pl.col(name) + shift for name in timestamps)


class ReplayFeatures:
    """The point-in-time join of a whole history, computed once: a joined value does not change with the virtual time.

    Rows are looked up by `ROW`, their index in the history; rows without an index are joined on each call. The replays
    of one history share the join in a file of the folder `memory`: the first one writes it, the others wait for it.
    """

    writable: ClassVar[bool] = False

    def __init__(self, features: FeatureSet, sources: ReplaySources, store: Features, memory: Path) -> None:
        self._store = store
        self._features = features
        self._joined = self._join_history(sources, memory) if features.views else None
        self.rows = self._add_joined(sources.rows)

    def _join_history(self, sources: ReplaySources, memory: Path) -> pl.DataFrame:
        names = [name for view in self._features.views for name in view.features]
        key = sha256(json.encode((sources.original.columns, sources.original.height, self._features.views))).hexdigest()
        file = memory / f"features-{key}.arrow"
        memory.mkdir(parents=True, exist_ok=True)
        with lock_file(file.with_suffix(".lock")):
            if not file.exists():
                joined = self._store.join(sources.original, self._features, _END_OF_TIME).select(names)
                draft = file.with_suffix(".draft")
                joined.write_ipc(draft)
                draft.replace(file)
        return pl.read_ipc(file)

    def join(self, rows: pl.DataFrame, features: FeatureSet, until: datetime) -> pl.DataFrame:
        if self._joined is None:
            return rows
        if ROW not in rows.columns or rows[ROW].null_count() or features.views != self._features.views:
            return self._store.join(rows, features, until)
        return self._add_joined(rows)

    def _add_joined(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows if self._joined is None else pl.concat([rows, self._joined[rows[ROW]]], how="horizontal")
