"""The rows that a training sees: fixed by a snapshot, so that the same ones can be had again."""

from datetime import datetime
from typing import Any

import polars as pl
from msgspec import Struct

from tidemill.clock import Clock, parse_duration
from tidemill.core.feature import FeatureSet
from tidemill.core.pipeline import step
from tidemill.core.policy import ModelPolicy, Problem, Training
from tidemill.core.resources import Features, JournalReader, Sources, TableReader, Tables
from tidemill.data.frame import ARRIVED, KNOWN_AT, TIME, parse_time_column
from tidemill.data.superseded import drop_repeated_keys, drop_superseded_batches
from tidemill.errors import DataError
from tidemill.monitoring.windows import read_window, unpack_features


class Snapshot(Struct, frozen=True, kw_only=True):
    """Which rows a training sees: a version of a table, and the newest label that was known by then.

    Of rows with the same `key` in several batches, those of the newest count.

    The same snapshot gives the same rows at any later time.
    """

    table: str
    version: int
    known_until: datetime | None
    feedback_until: datetime | None = None
    key: tuple[str, ...] = ()


@step
def take_snapshot(
    policy: ModelPolicy,
    until: datetime,
    admitted: list[Any],  # noqa: ARG001 - what makes it come after the ingestion
    tables: Tables,
    journal: JournalReader,
    sources: Sources,
) -> Snapshot:
    """Fix what the training may see; it comes after the ingestion, of which it takes what `ingest` gave."""
    source = policy.problem.source
    version = tables.version(source)
    if version < 0:
        raise DataError(
            f"no batch of source {source!r} was let in yet",
            f"`tidemill checks list --action stop` says why; mend the rows, or `tidemill data accept {source}`",
        )
    definition = sources.definition(source)
    _hold_time(tables, version, source, definition.time or "")
    known = tables.read(source, version, [_known(policy.problem)])[_known(policy.problem)]
    labels = journal.read(f"labels/{policy.name}", until=until) if policy.training.feedback else pl.DataFrame()
    return Snapshot(
        table=source,
        version=version,
        known_until=_newest(known.filter(known <= until)),
        feedback_until=_newest(labels["known_at"]) if labels.width else None,
        key=definition.key,
    )


def _hold_time(tables: TableReader, version: int, source: str, time: str) -> None:
    """Refuse rows that were let in by another event time than the policy names now."""
    if not time:
        return
    cure = f"name it as it was under [sources.{source}]; or give the source another name: its rows are let in anew"
    try:
        moments = tables.read(source, version, [time, TIME])
    except pl.exceptions.ColumnNotFoundError:
        raise DataError(
            f"the rows of source {source!r} were let in without a column {time!r}, its time", cure
        ) from None
    if not isinstance(moments.schema[time], pl.Datetime):
        return
    if not moments.select((parse_time_column(moments, time, source) == pl.col(TIME)).all()).item():
        raise DataError(f"the rows of source {source!r} were let in by another time than {time!r}", cure)


def _known(problem: Problem) -> str:
    """The column with the moment at which a row with its label was known."""
    return problem.label_known_at or KNOWN_AT


def _newest(moments: pl.Series) -> datetime | None:
    newest = moments.max()
    return newest if isinstance(newest, datetime) else None


def extract(snapshot: Snapshot, problem: Problem, options: Training, name: str) -> pl.DataFrame:
    """The labelled rows of a snapshot, oldest first; a file that came again replaces its earlier rows.

    Call it inside a pipeline. With feedback there are also the rows that were served and labelled since.
    """
    rows = read_labelled(snapshot, problem)
    if options.feedback:
        rows = add_feedback(rows, snapshot, problem, name)
    return keep_window(rows, snapshot, options)


@step(transient=True)
def read_labelled(snapshot: Snapshot, problem: Problem, tables: TableReader) -> pl.DataFrame:
    """The rows of a snapshot whose label was known by then."""
    rows = tables.read(snapshot.table, snapshot.version)
    if problem.label not in rows.columns:
        raise DataError(
            f"source {problem.source!r} has no label column {problem.label!r}",
            f"its columns: {', '.join(name for name in rows.columns if not name.startswith('_'))}",
        )
    rows = drop_repeated_keys(drop_superseded_batches(rows), snapshot.key)
    label = pl.col(problem.label).fill_nan(None) if rows.schema[problem.label].is_float() else pl.col(problem.label)
    rows = rows.filter(pl.col(_known(problem)) <= snapshot.known_until, label.is_not_null())
    return rows.drop("_batch", "_path", ARRIVED)


@step(transient=True)
def keep_window(rows: pl.DataFrame, snapshot: Snapshot, options: Training) -> pl.DataFrame:
    """The rows of the policy's window, oldest first; raises `DataError` where they are too few."""
    if options.window:
        rows = rows.filter(pl.col(TIME) > pl.col(TIME).max() - parse_duration(options.window))
    if rows.height < options.minimum_rows:
        raise DataError(
            f"only {rows.height} labelled rows of {snapshot.table!r} are known yet (at least {options.minimum_rows})",
            "wait for more, or lower minimum_rows under [training]",
        )
    return rows.sort(TIME, maintain_order=True)


@step(transient=True)
def add_feedback(
    rows: pl.DataFrame, snapshot: Snapshot, problem: Problem, name: str, journal: JournalReader
) -> pl.DataFrame:
    """Add what was predicted and labelled since: the features as they were served, and what turned out."""
    if snapshot.feedback_until is None:
        return rows
    served = read_window(journal, name, None, snapshot.feedback_until)
    served = served.filter(pl.col("truth").is_not_null(), pl.col("role") != "shadow") if served.width else served
    if served.is_empty():
        return rows
    truth = served["truth"]
    if rows.schema[problem.label] == pl.Boolean:
        truth = truth == "true"
    learned = unpack_features(served).with_columns(
        truth.cast(rows.schema[problem.label]).alias(problem.label),
        served["time"].alias(TIME),
        served["truth_known_at"].alias(KNOWN_AT),
    )
    return pl.concat([rows, learned.select(c for c in learned.columns if c in rows.columns)], how="diagonal_relaxed")


def join_features(rows: pl.DataFrame, features: FeatureSet, snapshot: Snapshot) -> pl.DataFrame:
    """The rows with every view's columns, each as it was known at the row's time; call it inside a pipeline."""
    return join_views(rows, features, snapshot, see_sources(features) if features.views else {})


@step(cache=False)
def see_sources(features: FeatureSet, sources: Sources, clock: Clock) -> dict[str, list[str]]:
    """What is behind each view: where its source means something else, or others come, it is looked up anew."""
    return {
        name: [repr(sources.definition(name).meaning), *(batch.id for batch in sources.batches(name, clock.now()))]
        for name in sorted({view.source for view in features.views})
    }


@step(transient=True)
def join_views(
    rows: pl.DataFrame,
    features: FeatureSet,
    snapshot: Snapshot,
    seen: dict[str, list[str]],  # noqa: ARG001 - what makes it another join where there are other batches
    store: Features,
) -> pl.DataFrame:
    """The rows with every view's columns, as these batches have them."""
    newest = rows[TIME].max()
    assert isinstance(newest, datetime)
    return store.join(rows, features, max(newest, snapshot.known_until or newest))
