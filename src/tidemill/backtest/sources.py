"""Replayed sources: history, delivered batch by batch as it once arrived, with what is planted on top."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar

import numpy as np
import polars as pl

from tidemill.clock import parse_duration
from tidemill.core.backtest import Backtest
from tidemill.core.batch import Batch
from tidemill.core.feature import FeatureSet, FeatureView
from tidemill.core.resources import Features, RecordedSources
from tidemill.core.schema import Schema
from tidemill.core.source import Source
from tidemill.data.frame import TIME, in_time
from tidemill.data.tables import read_table
from tidemill.errors import DataError, InputError

ROW = "_row"
_DAY = timedelta(days=1)
_END_OF_TIME = datetime(9999, 1, 1, tzinfo=UTC)


class ReplaySources:
    """The project's sources as they were: of the replayed one, the batches that had been delivered by then.

    `rows` are the whole history in the order in which it is replayed, `original` in the order in which it was; `_row`
    is a row's place in the latter.
    """

    writable: ClassVar[bool] = False

    def __init__(self, folder: Path, files: RecordedSources, source: str, start: datetime, options: Backtest) -> None:
        self._folder = folder
        self._files = files
        self._source = source
        self._start = start
        self._planted = {one.day: one for one in options.planted if one.source == source}
        definition = files.definition(source)
        if not definition.time:
            raise InputError(
                f"source {source!r} has no time, so its history cannot be replayed",
                f'name the column of the event time: [sources.{source}] time = "…"',
            )
        history = files.source_history(source)
        if timeless := history[TIME].null_count():
            raise DataError(
                f"{timeless} rows of source {source!r} have no event time, so they have no place in a history",
                f"give them a {definition.time!r}, or take them out",
            )
        self.original = history.sort(TIME, maintain_order=True).with_row_index(ROW)
        self.rows = shuffled(self.original, options.seed) if options.shuffle else self.original
        self._delivery = parse_duration(definition.delivery or "1d")
        self._batches = self._cut()

    def _cut(self) -> list[Batch]:
        """All that came before the start is one batch; then a batch for each span of delivery, one span later."""
        first, last = self.rows[TIME][0], self.rows[TIME][-1]
        batches = []
        if first < self._start:
            batches.append(
                Batch(id=f"{self._source}/history", source=self._source, known_at=self._start, path="history")
            )
        moment = self._start
        while moment <= last:
            day, whole, arrives = moment.date().isoformat(), moment.isoformat(), moment + self._delivery
            planted = self._planted.get(day) if moment - self._delivery < _midnight(moment) else None
            name = f"{self._source}/{whole if self._delivery % _DAY else day}"
            path = planted.path if planted else whole
            batches.append(Batch(id=name, source=self._source, known_at=arrives, path=path))
            if planted and planted.repaired:
                again = arrives + parse_duration(planted.repaired)
                batches.append(Batch(id=f"{name}-repaired", source=self._source, known_at=again, path=whole))
            moment = arrives
        return sorted(batches, key=lambda batch: batch.known_at)

    @property
    def deliveries(self) -> list[datetime]:
        """When batches arrive."""
        return [batch.known_at for batch in self._batches]

    @property
    def declared(self) -> str:
        return self._files.declared

    def definition(self, source: str) -> Source:
        return self._files.definition(source)

    def schema(self, source: str) -> Schema | None:
        return self._files.schema(source)

    def batches(self, source: str, until: datetime) -> list[Batch]:
        if source != self._source:
            return list(self._files.batches(source, until))
        return [batch for batch in self._batches if batch.known_at <= until]

    def read(self, batch: Batch) -> pl.DataFrame:
        if batch.source != self._source:
            return self._files.read(batch)
        if batch.path == "history":
            return self.rows.filter(pl.col(TIME) < self._start)
        if batch.path in {planted.path for planted in self._planted.values()}:
            definition = self.definition(self._source)
            rows = read_table(self._folder / batch.path, definition.format, empty=True, texts=batch.texts)
            return in_time(rows, definition, self._source, batch.known_at, lenient=True)
        begin = datetime.fromisoformat(batch.path)
        return between(self.rows, begin, begin + self._delivery)

    def history(self, view: FeatureView, until: datetime) -> pl.DataFrame:
        return self._files.history(view, until)


def _midnight(moment: datetime) -> datetime:
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def between(rows: pl.DataFrame, begin: datetime, end: datetime) -> pl.DataFrame:
    """The rows, in the order of their times, that happened in [begin, end)."""
    times = rows[TIME]
    return rows[times.search_sorted(begin, "left") : times.search_sorted(end, "left")]


def shuffled(rows: pl.DataFrame, seed: int) -> pl.DataFrame:
    """The same rows at each other's times: as many at any time as there were, but nothing changes from then to now.

    Every moment of a row (when it was known, when its label was) stays as far from its time as it was.
    """
    order = np.random.default_rng(seed).permutation(rows.height)
    drawn = rows[order]
    moved = rows[TIME] - drawn[TIME]
    moments = [name for name, kind in rows.schema.items() if isinstance(kind, pl.Datetime)]
    return drawn.with_columns(pl.col(name) + moved for name in moments)


class ReplayFeatures:
    """The point-in-time join of a whole history, done once: what was known at a row's time does not change later.

    Rows are found again by `_row`, their place in the history; what has none is joined as it comes.
    """

    writable: ClassVar[bool] = False

    def __init__(self, features: FeatureSet, sources: ReplaySources, store: Features) -> None:
        self._store = store
        self._features = features
        names = [name for view in features.views for name in view.features]
        self._joined = store.join(sources.original, features, _END_OF_TIME).select(names) if names else None
        self.rows = self._with_joined(sources.rows)

    def join(self, rows: pl.DataFrame, features: FeatureSet, until: datetime) -> pl.DataFrame:
        if self._joined is None:
            return rows
        if ROW not in rows.columns or rows[ROW].null_count() or features.views != self._features.views:
            return self._store.join(rows, features, until)
        return self._with_joined(rows)

    def _with_joined(self, rows: pl.DataFrame) -> pl.DataFrame:
        return rows if self._joined is None else pl.concat([rows, self._joined[rows[ROW]]], how="horizontal")
