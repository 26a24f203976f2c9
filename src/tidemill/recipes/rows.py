"""The rows of a training: a snapshot fixes them, so that the same rows can be read again."""

from datetime import datetime
from typing import Any

import polars as pl
from msgspec import Struct

from tidemill.clock import Clock, parse_duration
from tidemill.core.columns import ARRIVED, BATCH, KNOWN_AT, PATH, ROW_ID, TIME, is_internal
from tidemill.core.context import Context
from tidemill.core.feature import FeatureSet
from tidemill.core.pipeline import step
from tidemill.core.policy import ModelPolicy, Problem, Training
from tidemill.core.resources import BooksReader, Features, JournalReader, Sources, TableReader, Tables
from tidemill.core.schema import Column
from tidemill.data.classes import match_classes
from tidemill.data.frame import parse_time_column
from tidemill.data.keys import to_class_names, to_row_keys
from tidemill.data.spellings import (
    describe_spellings,
    find_spellings,
    suggest_setting,
    unify_columns,
    unify_spellings,
)
from tidemill.data.superseded import drop_repeated_keys, drop_superseded_batches
from tidemill.errors import DataError
from tidemill.monitoring.windows import read_window, unpack_features
from tidemill.registry.withdrawals import find_withdrawn
from tidemill.telemetry import get_logger


class Snapshot(Struct, frozen=True, kw_only=True):
    """The rows of a training: a version of a table, and the time of the newest label that was known then.

    Of rows with the same `key` in several batches, only the one that became known last is current (`by_known_at`; if
    the source has no column for this, the one that was accepted last). The same snapshot selects the same rows at any
    later time. `columns` are those of the source's schema in force. The batches in `withdrawn` count as if they had
    never been accepted.
    """

    table: str
    version: int
    known_until: datetime | None
    feedback_until: datetime | None = None
    key: tuple[str, ...] = ()
    by_known_at: bool = False
    columns: tuple[Column, ...] = ()
    withdrawn: tuple[str, ...] = ()


@step
def take_snapshot(
    policy: ModelPolicy,
    until: datetime,
    ingestion: list[Any],  # noqa: ARG001 - orders this step after the ingestion
    tables: Tables,
    journal: JournalReader,
    sources: Sources,
    books: BooksReader,
    context: Context,
) -> Snapshot:
    """Fix the rows of the training; `ingestion` is the output of `ingest`, so that this step runs after it."""
    source = policy.problem.source
    version = tables.version(source)
    if version < 0:
        raise DataError(
            f"no batch of source {source!r} was accepted yet",
            f"see `tidemill checks list --action stop`; correct them, or `tidemill data accept {source} --reason …`",
        )
    definition, schemas = sources.definition(source), books.schemas.find(source=source)
    _check_time_column(tables, version, source, definition.time or "")
    return Snapshot(
        table=source,
        version=version,
        known_until=find_known_until(policy, until, tables, version),
        feedback_until=find_feedback_until(policy, until, journal),
        key=definition.key,
        by_known_at=bool(definition.known_at),
        columns=max(schemas, key=lambda accepted: accepted.version).schema.columns if schemas else (),
        withdrawn=tuple(sorted(find_withdrawn(books, context.environment))),
    )


def find_known_until(policy: ModelPolicy, until: datetime, tables: TableReader, version: int) -> datetime | None:
    """Return the time of the newest label that was known at a time, in a version of the table."""
    column = _label_known_column(policy.problem)
    known = tables.read(policy.problem.source, version, [column])[column]
    return _max_time(known.filter(known <= until))


def find_feedback_until(policy: ModelPolicy, until: datetime, journal: JournalReader) -> datetime | None:
    """Return the time of the newest label of the service, if the policy trains on these."""
    labels = journal.read(f"labels/{policy.name}", until=until) if policy.training.feedback else pl.DataFrame()
    return _max_time(labels["known_at"]) if labels.width else None


def _check_time_column(tables: TableReader, version: int, source: str, time: str) -> None:
    """Raise `DataError` if the rows were accepted with another event time than the policy names now."""
    if not time:
        return
    cure = f"restore the time of [sources.{source}]; or give the source another name: its rows are then ingested again"
    try:
        times = tables.read(source, version, [time, TIME])
    except pl.exceptions.ColumnNotFoundError:
        raise DataError(
            f"the rows of source {source!r} were accepted without a column {time!r}, its time", cure
        ) from None
    if not isinstance(times.schema[time], pl.Datetime):
        return
    if not times.select((parse_time_column(times, time, source) == pl.col(TIME)).all()).item():
        raise DataError(f"the rows of source {source!r} were accepted with another time than {time!r}", cure)


def _label_known_column(problem: Problem) -> str:
    """Return the column with the time at which a row's label became known."""
    return problem.label_known_at or KNOWN_AT


def _max_time(times: pl.Series) -> datetime | None:
    newest = times.max()
    return newest if isinstance(newest, datetime) else None


def extract(snapshot: Snapshot, problem: Problem, options: Training, name: str, key: str = "") -> pl.DataFrame:
    """Return the labelled rows of a snapshot, oldest first; a file that arrived again replaces its earlier rows.

    Call it inside a pipeline. With feedback, rows that were served and labelled since are added, with the column `key`
    that names their regimes.
    """
    rows = read_labelled(snapshot, problem)
    if options.feedback:
        rows = add_feedback(rows, snapshot, problem, name, key=key)
    return keep_window(rows, snapshot, options)


@step(transient=True)
def read_labelled(snapshot: Snapshot, problem: Problem, tables: TableReader) -> pl.DataFrame:
    """Return the rows of a snapshot whose label was known then."""
    rows = tables.read(snapshot.table, snapshot.version)
    if problem.label not in rows.columns:
        raise DataError(
            f"source {problem.source!r} has no label column {problem.label!r}",
            f"set another label; its columns: {', '.join(name for name in rows.columns if not is_internal(name))}",
        )
    if snapshot.withdrawn:
        rows = rows.filter(~pl.col(BATCH).is_in(snapshot.withdrawn))
    rows = unify_columns(rows, {problem.label: problem.spellings})
    known_at = pl.col(_label_known_column(problem))
    rows = drop_superseded_batches(rows).filter(known_at.is_null() | (known_at <= snapshot.known_until))
    rows = drop_repeated_keys(rows, snapshot.key, by_known_at=snapshot.by_known_at)
    label = pl.col(problem.label).fill_nan(None) if rows.schema[problem.label].is_float() else pl.col(problem.label)
    rows = rows.filter(known_at.is_not_null(), label.is_not_null())
    _check_spellings(rows[problem.label], problem)
    return rows.drop(BATCH, PATH, ARRIVED)


def _check_spellings(labels: pl.Series, problem: Problem) -> None:
    """Raise `DataError` if the label of a classification spells one class in several ways."""
    found = find_spellings(labels, problem.spellings) if problem.task == "classification" else {}
    if found:
        raise DataError(
            describe_spellings(problem.label, found),
            f"add to [problem] in tidemill.toml: {suggest_setting(found)}; a different class there means itself",
        )


@step(transient=True)
def keep_window(rows: pl.DataFrame, snapshot: Snapshot, options: Training) -> pl.DataFrame:
    """Return the rows of the policy's window, oldest first; raise `DataError` if there are too few."""
    if options.window:
        rows = rows.filter(pl.col(TIME) > pl.col(TIME).max() - parse_duration(options.window))
    if rows.height < options.minimum_rows:
        raise DataError(
            f"only {rows.height} labelled rows of {snapshot.table!r} are known yet (at least {options.minimum_rows})",
            "wait for more rows, or lower minimum_rows under [training]",
        )
    return rows.sort(TIME, maintain_order=True)


@step(transient=True)
def add_feedback(
    rows: pl.DataFrame, snapshot: Snapshot, problem: Problem, name: str, journal: JournalReader, key: str = ""
) -> pl.DataFrame:
    """Add the rows that were predicted and labelled since: their features as served, and their labels."""
    if snapshot.feedback_until is None:
        return rows
    served = read_window(journal, name, None, snapshot.feedback_until)
    served = served.filter(pl.col("truth").is_not_null(), pl.col("role") != "shadow") if served.width else served
    if served.is_empty():
        return rows
    served = drop_repeated_rows(served, rows, snapshot.key)
    labels = _to_labels(served["truth"], rows[problem.label], problem)
    if misfits := labels.null_count():
        get_logger("recipes").warning(
            "%d of %d labels of %s mean no %s, such as %r: the training excludes them",
            misfits,
            len(labels),
            name,
            "class" if problem.task == "classification" else "finite number",
            served["truth"].filter(labels.is_null())[0],
        )
    learned = (
        unpack_features(served)
        .with_columns(labels, served["time"].alias(TIME), served["truth_known_at"].alias(KNOWN_AT))
        .filter(labels.is_not_null())
    )
    if key and key in rows.columns and key not in learned.columns and "regime" in served.columns:
        regimes = served["regime"].filter(labels.is_not_null()).cast(rows.schema[key], strict=False)
        learned = learned.with_columns(regimes.alias(key))
    return pl.concat(
        [rows, learned.select(name for name in learned.columns if name in rows.columns)], how="diagonal_relaxed"
    )


def drop_repeated_rows(served: pl.DataFrame, rows: pl.DataFrame, key: tuple[str, ...]) -> pl.DataFrame:
    """Drop served rows whose id a source row or a later served row has, if the ids are unique in the source."""
    ids = rows[ROW_ID] if ROW_ID in rows.columns else pl.Series([None] * rows.height, dtype=pl.String)
    if key and set(key) <= set(rows.columns):  # rows from before the column `ROW_ID` existed
        ids = ids.zip_with(ids.is_not_null(), to_row_keys(rows, key))
    if ids.drop_nulls().is_duplicated().any():
        return served
    named = served.filter(pl.col("key") != "", ~pl.col("key").is_in(ids.drop_nulls().implode()))
    newest = named.sort("known_at", maintain_order=True).unique("key", keep="last", maintain_order=True)
    return pl.concat([served.filter(pl.col("key") == ""), newest])


def _to_labels(truth: pl.Series, labels: pl.Series, problem: Problem) -> pl.Series:
    """Convert labels of the journal to values like those of the source's label; null if a label fits none."""
    if problem.task == "regression":
        numbers = truth.cast(pl.Float64, strict=False)
        numbers = numbers.set(~numbers.is_finite().fill_null(value=False), None)
        whole = labels.dtype.is_integer() and bool((numbers == numbers.round(0)).all())
        return numbers.cast(labels.dtype if whole else pl.Float64, strict=False).alias(problem.label)
    classes = pl.DataFrame({"class": to_class_names(labels), "label": labels}).drop_nulls("class").unique("class")
    truth = unify_spellings(truth, problem.spellings)
    matched = match_classes(truth, classes["class"].to_list()).alias("class").to_frame()
    return matched.join(classes, on="class", how="left", maintain_order="left")["label"].alias(problem.label)


def join_features(rows: pl.DataFrame, features: FeatureSet, snapshot: Snapshot) -> pl.DataFrame:
    """Add every view's columns, each value as it was known at the row's time; call it inside a pipeline."""
    return join_views(rows, features, snapshot, list_view_sources(features) if features.views else {})


@step(cache=False)
def list_view_sources(features: FeatureSet, sources: Sources, clock: Clock) -> dict[str, list[str]]:
    """Return the definition and the batches of the source of each view: if they change, the join runs again."""
    return {
        name: [repr(sources.definition(name).meaning), *(batch.id for batch in sources.batches(name, clock.now()))]
        for name in sorted({view.source for view in features.views})
    }


@step(transient=True)
def join_views(
    rows: pl.DataFrame,
    features: FeatureSet,
    snapshot: Snapshot,
    view_sources: dict[str, list[str]],  # noqa: ARG001 - the join runs again if there are other batches
    store: Features,
) -> pl.DataFrame:
    """Add every view's columns, from these batches."""
    newest = rows[TIME].max()
    assert isinstance(newest, datetime)
    return store.join(rows, features, max(newest, snapshot.known_until or newest))
