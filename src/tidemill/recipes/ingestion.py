"""Ingestion: checks each new batch of a source by its schema and appends it; and writes to the online store."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from tidemill.checks.inference import infer_schema, type_empty_columns, widen_schema
from tidemill.checks.table import check_table, convert_to_schema, unreadable_verdict
from tidemill.clock import Clock
from tidemill.core.batch import Batch
from tidemill.core.check import SchemaEvidence, Verdict
from tidemill.core.columns import ARRIVED, BATCH, PATH, ROW_ID
from tidemill.core.context import Context
from tidemill.core.feature import FeatureSet
from tidemill.core.pipeline import pipeline, step
from tidemill.core.policy import ModelPolicy
from tidemill.core.resources import Books, BooksReader, Online, Sources, Tables
from tidemill.core.schema import Schema, SchemaVersion
from tidemill.core.source import Source
from tidemill.data.frame import add_columns
from tidemill.data.identity import name_rows
from tidemill.data.spellings import Spellings
from tidemill.data.timestamps import repeat_time
from tidemill.errors import DataError, Overtaken, TidemillError, TooMuchMemory, Unreadable
from tidemill.featurestore.materialize import materialize as write_online
from tidemill.recipes.label_classes import KnownClasses, close_labels, explain_labels, find_known_classes
from tidemill.recipes.large_batches import infer_from_parts, judge_large_batch
from tidemill.recipes.pieces import Pieces
from tidemill.registry.retrying import retry_overtaken
from tidemill.registry.withdrawals import find_withdrawn

_MICROSECOND = timedelta(microseconds=1)


class IngestionSummary(Struct, frozen=True):
    """The number of accepted batches and rows, and the table's new version."""

    table: str
    version: int
    batches: int
    rows: int


@step
def ingest(
    source: str,
    until: datetime,
    sources: Sources,
    tables: Tables,
    books: Books,
    clock: Clock,
    context: Context,
) -> tuple[list[Verdict], pl.DataFrame | None]:
    """Check every batch that is new, or was stopped under an older schema, and append the batches that fit.

    A batch that cannot be read or checked is stopped, and the others are ingested. Accepted batches are recorded in
    pieces. The second output contains the bad rows of the stopped batches, for inspection; the verdicts link to it.
    """
    schema = resolve_schema(source, until, sources, books, clock)
    known = find_known_classes(source, schema, sources, tables, books, context.environment)
    schema = close_labels(schema, known)
    definition, labels = sources.definition(source), sources.labels(source)

    def refuse(batch: Batch, error: Unreadable) -> Verdict:
        return _add_facts(unreadable_verdict(batch.id, schema.version, error, definition.bounds), batch, labels)

    pieces = Pieces(source, tables, books, clock, context, refuse)
    arrived = datetime.min.replace(tzinfo=UTC)
    for batch in find_pending_batches(source, until, schema, sources, books, context.environment, context.run):
        try:
            try:
                frame = read_batch(batch, schema, sources)
            except TooMuchMemory as error:
                arrived = max(clock.now(), arrived + _MICROSECOND)
                _ingest_large(batch, schema, sources, known, pieces, arrived, context, error)
                continue
            verdict, bad = _judge(frame, schema, batch, definition, known, labels)
            if not verdict.stops:
                schema = _type_empty_columns(schema, frame, sources, books, clock, known)
            arrived = max(clock.now(), arrived + _MICROSECOND)  # the order of the batches, also if the clock stands
            rows = _prepare(bad if verdict.stops else frame, schema, batch, definition.key, arrived, verdict)
        except Unreadable as error:
            pieces.stop(refuse(batch, error))
            continue
        verdict = _add_facts(verdict, batch, labels)
        if verdict.stops:
            link = {"step": context.step, "output": "output1", "rows": pieces.keep_bad_rows(rows)}
            pieces.stop(replace(verdict, evidence=verdict.evidence | {"bad_rows": link}))
        else:
            pieces.accept(batch, verdict, rows)
    pieces.flush()
    return pieces.verdicts, pieces.stack_bad_rows()


def _ingest_large(
    batch: Batch,
    schema: Schema,
    sources: Sources,
    known: KnownClasses,
    pieces: Pieces,
    arrived: datetime,
    context: Context,
    error: TooMuchMemory,
) -> None:
    """Judge and append a batch in parts; `error` is raised if it cannot be read in parts."""
    definition, labels = sources.definition(batch.source), sources.labels(batch.source)
    with _one_batch(batch):
        open_parts = sources.open_parts(replace(batch, types=schema.types))
        if open_parts is None:
            cure = f"save it as CSV, JSON Lines or Parquet, which are read in parts; or {error.cure}"
            raise TooMuchMemory(error.problem, cure)
        large = judge_large_batch(batch, open_parts, schema, definition, known, labels)
        verdict = _add_facts(large.verdict, batch, labels)
        if verdict.stops:
            rows = _add_origin(large.bad, batch, definition.key, arrived)
    if verdict.stops:
        link = {"step": context.step, "output": "output1", "rows": pieces.keep_bad_rows(rows)}
        pieces.stop(replace(verdict, evidence=verdict.evidence | {"bad_rows": link}))
        return

    def iterate() -> Iterator[pl.DataFrame]:
        with _one_batch(batch):
            yield from large.iterate(lambda rows: _add_origin(rows, batch, definition.key, arrived))

    pieces.accept_parts(batch, verdict, iterate)


def _judge(
    frame: pl.DataFrame,
    schema: Schema,
    batch: Batch,
    definition: Source,
    known: KnownClasses,
    labels: Mapping[str, Spellings],
) -> tuple[Verdict, pl.DataFrame]:
    """Return the verdict on the rows of a batch, and the bad ones."""
    with _one_batch(batch):
        verdict, bad = check_table(frame, schema, batch.id, definition, batch.known_at)
        return explain_labels(verdict, frame, batch, known, labels), bad


def _prepare(
    rows: pl.DataFrame, schema: Schema, batch: Batch, key: tuple[str, ...], arrived: datetime, verdict: Verdict
) -> pl.DataFrame:
    """Return rows with their origin, and those of an accepted batch with the types of the schema."""
    with _one_batch(batch):
        return _add_origin(rows if verdict.stops else convert_to_schema(rows, schema), batch, key, arrived)


@contextmanager
def _one_batch(batch: Batch) -> Iterator[None]:
    """Raise what the values of a batch cause as an error of this batch: it must not end the ingestion of the others.

    A panic of Polars is no `Exception`.
    """
    try:
        yield
    except Unreadable:
        raise
    except TidemillError as error:
        raise Unreadable(error.problem, error.cure) from error
    except (Exception, pl.exceptions.PanicException) as error:
        reason = str(error).partition("\n")[0]
        raise Unreadable(
            f"the rows of {batch.path} cannot be checked ({type(error).__name__}: {reason})",
            "save it as Parquet, with a type for each column, and use that file",
        ) from error


def _add_facts(verdict: Verdict, batch: Batch, labels: Mapping[str, Spellings]) -> Verdict:
    facts = {"path": batch.path, "spellings": _list_spellings(labels)}
    return replace(verdict, evidence=verdict.evidence | facts)


def _list_spellings(labels: Mapping[str, Spellings]) -> dict[str, dict[str, str]]:
    return {label: dict(spellings) for label, spellings in labels.items() if spellings}


def find_pending_batches(
    source: str, until: datetime, schema: Schema, sources: Sources, books: BooksReader, environment: str, run: str = ""
) -> list[Batch]:
    """Return the batches that were not accepted, withdrawn, or stopped in another run under these rules.

    The rules are this schema or a newer one, the same spellings of labels, and for a batch beyond the bounds of one
    file the same bounds. A batch that could not be read for a reason that may end is read again.

    An accepted batch stays accepted when it is withdrawn: the same file is not ingested again.
    """
    spellings = _list_spellings(sources.labels(source))
    bounds = sources.definition(source).bounds
    stopped = {
        verdict.subject: evidence.schema_version if _is_settled(evidence, spellings, bounds) else -1
        for verdict in books.verdicts.find(check="schema", action="stop", environment=environment)
        for evidence in [verdict.read(SchemaEvidence)]
        if verdict.run != run  # a resumed run checks its batches again
    }
    accepted = books.verdicts.values("subject", check="schema", action="proceed", environment=environment)
    settled = accepted | find_withdrawn(books, environment).keys()
    return [
        batch
        for batch in sources.batches(source, until)
        if batch.id not in settled and stopped.get(batch.id, -1) < schema.version
    ]


def _is_settled(
    evidence: SchemaEvidence, spellings: Mapping[str, Mapping[str, str]], bounds: Mapping[str, int]
) -> bool:
    """Return whether a stopped batch would be stopped again under the same schema."""
    has_same_bounds = not evidence.bounds or evidence.bounds == bounds
    return evidence.spellings == spellings and has_same_bounds and not evidence.temporary


def read_batch(batch: Batch, schema: Schema, sources: Sources) -> pl.DataFrame:
    """Read the rows of a batch, with the types of its schema."""
    return sources.read(replace(batch, types=schema.types))


def _add_origin(frame: pl.DataFrame, batch: Batch, key: tuple[str, ...], arrived: datetime) -> pl.DataFrame:
    """Add each row's id, batch, path and time of arrival: of a file that arrives again, only the last rows are current.

    Rows of a backtest have an id already.
    """
    origin = [
        pl.Series(BATCH, [batch.id]).new_from_index(0, frame.height),
        pl.Series(PATH, [batch.path]).new_from_index(0, frame.height),
        repeat_time(ARRIVED, arrived, frame.height),
    ]
    ids = [] if ROW_ID in frame.columns else [name_rows(frame, key, batch.path).alias(ROW_ID)]
    return add_columns(frame, [*ids, *origin])


def resolve_schema(source: str, until: datetime, sources: Sources, books: Books, clock: Clock) -> Schema:
    """Return the schema in force: the newest accepted one; accept a schema file with a higher version first.

    If another process accepts one at the same time, that one is in force.
    """
    return retry_overtaken(lambda: _resolve_schema(source, until, sources, books, clock))


def _resolve_schema(source: str, until: datetime, sources: Sources, books: Books, clock: Clock) -> Schema:
    versions = sorted(books.schemas.find(source=source), key=lambda version: version.version)
    declared = sources.schema(source)
    newest = versions[-1].schema if versions else None
    if declared is not None and (newest is None or declared.version > newest.version):
        return _accept_schema(books, clock, declared, "file").schema
    if newest is not None:
        return newest
    return _accept_schema(books, clock, _infer_schema(source, until, sources), "inferred").schema


def _infer_schema(source: str, until: datetime, sources: Sources) -> Schema:
    """Infer a schema from the first batch that has rows."""
    definition = sources.definition(source)
    times = tuple(name for name in (definition.time, definition.known_at) if name)
    batches = sources.batches(source, until)
    if not batches:
        raise DataError(f"source {source!r} has no rows yet", "wait for the first batch, or add a schema file")
    readable = None
    for batch in batches:
        with suppress(Unreadable):  # the check of the batch reports this error
            try:
                readable = sources.read(batch)
            except TooMuchMemory:
                if open_parts := sources.open_parts(batch):
                    return infer_from_parts(open_parts, source, definition, times, batch.known_at)
        if readable is not None and readable.height:
            break
    frame = readable if readable is not None else sources.read(batches[0])
    return infer_schema(frame, source, definition.key, times=times, later=definition.later)


def _type_empty_columns(
    schema: Schema, frame: pl.DataFrame, sources: Sources, books: Books, clock: Clock, known: KnownClasses
) -> Schema:
    """Accept a version of the schema in which columns that had no values so far have a type, if a batch has values.

    A version that another process accepts at the same time is the one that is extended.
    """
    typed = type_empty_columns(schema, frame, sources.definition(schema.source))
    if typed == schema:
        return schema
    pairs = zip(schema.columns, typed.columns, strict=True)
    names = ", ".join(repr(after.name) for before, after in pairs if before != after)
    reason = f"the first values of {names}"
    try:
        return _accept_schema(books, clock, replace(typed, version=schema.version + 1), "inferred", reason).schema
    except Overtaken:
        newest = max(books.schemas.find(source=schema.source), key=lambda version: version.version).schema
        if newest.version <= schema.version:
            raise
    return _type_empty_columns(close_labels(newest, known), frame, sources, books, clock, known)


def accept_schema_change(
    source: str,
    tables: list[tuple[pl.DataFrame, datetime]],
    reason: str,
    until: datetime,
    sources: Sources,
    books: Books,
    clock: Clock,
    known: KnownClasses | None = None,
    *,
    renew: bool = False,
) -> SchemaVersion:
    """Accept a new version of a source's schema, widened only as far as these tables need, each at its arrival.

    `known` are the classes of labels that accepted rows have: a table with other classes needs a wider domain. If the
    newest version accepts the tables, it is returned; with `renew`, there is an equal one after it.
    """

    def accept() -> SchemaVersion:
        newest = resolve_schema(source, until, sources, books, clock)
        schema = close_labels(newest, known or {})
        for frame, arrived in (*tables, *tables):  # a column that a later table adds may be absent from an earlier one
            schema = widen_schema(schema, frame, sources.definition(source), arrived)
        if replace(schema, version=newest.version) == newest and not renew:
            (version,) = books.schemas.find(source=source, version=newest.version)
            return version
        return _accept_schema(books, clock, replace(schema, version=newest.version + 1), "hand", reason)

    return retry_overtaken(accept)


def find_stopped_batches(
    source: str, until: datetime, sources: Sources, books: BooksReader, environment: str
) -> list[Batch]:
    """Return the batches that any version of the schema stopped, and that were not accepted since."""
    stopped = find_stopped_ids(books, environment)
    return [batch for batch in sources.batches(source, until) if batch.id in stopped]


def find_stopped_ids(books: BooksReader, environment: str) -> set[str]:
    """Return the ids of the batches that were stopped by their schemas, and not accepted or withdrawn since."""
    scope = {"check": "schema", "environment": environment}
    stopped = books.verdicts.values("subject", action="stop", **scope)
    if not stopped:
        return stopped
    accepted = books.verdicts.values("subject", action="proceed", **scope)
    return stopped - accepted - find_withdrawn(books, environment).keys()


def _accept_schema(books: Books, clock: Clock, schema: Schema, by: str, reason: str = "") -> SchemaVersion:
    version = SchemaVersion(
        id=f"{schema.source}/{schema.version}",
        source=schema.source,
        version=schema.version,
        schema=schema,
        accepted=clock.now(),
        by=by,
        reason=reason,
    )
    with books.transaction(durable=True):
        return books.schemas.add(version)


@step
def summarize_ingestion(source: str, verdicts: list[Verdict], tables: Tables) -> IngestionSummary:
    """Count the accepted batches and rows."""
    return IngestionSummary(
        table=source,
        version=tables.version(source),
        batches=len(verdicts),
        rows=sum(verdict.read(SchemaEvidence).rows for verdict in verdicts),
    )


@pipeline
def ingestion(policy: ModelPolicy, until: datetime) -> None:
    """Check and append the new batches of a model's source."""
    verdicts, _ = ingest(policy.problem.source, until)
    summarize_ingestion(policy.problem.source, verdicts)


@step
def materialize(features: FeatureSet, now: datetime, sources: Sources, online: Online) -> dict[str, int]:
    """Write the current values of every view to the online store."""
    return {view.name: write_online(view, sources, online, now) for view in features.views}


@pipeline
def materialization(features: FeatureSet, now: datetime) -> None:
    """Update the online store to the current values of every view."""
    materialize(features, now)
