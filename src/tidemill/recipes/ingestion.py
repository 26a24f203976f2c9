"""Ingestion: lets the new batches of a source in, each judged by its schema; and fills the online store."""

from contextlib import suppress
from datetime import datetime

import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from tidemill.checks.inference import infer_schema, widen_schema
from tidemill.checks.table import check_table, convert_to_schema, unreadable_verdict
from tidemill.clock import Clock
from tidemill.core.batch import Batch
from tidemill.core.check import SchemaEvidence, Verdict
from tidemill.core.context import Context
from tidemill.core.feature import FeatureSet
from tidemill.core.pipeline import pipeline, step
from tidemill.core.policy import ModelPolicy
from tidemill.core.resources import Books, BooksReader, Online, Sources, Tables
from tidemill.core.schema import Schema, SchemaVersion
from tidemill.data.frame import ARRIVED
from tidemill.errors import DataError, Unreadable
from tidemill.featurestore.materialize import materialize as write_online


class Admission(Struct, frozen=True):
    """How many batches and rows were let in, into which version of the table."""

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
    """Judge every batch that is new (or was stopped under an older schema), and append those that fit.

    The second output has the bad rows of those that do not, for people to look at: the verdicts link to it.
    """
    schema = schema_in_force(source, until, sources, books, clock)
    definition = sources.definition(source)
    verdicts: list[Verdict] = []
    rejected: list[pl.DataFrame] = []
    for batch in _waiting(source, until, schema, sources, books, context):
        try:
            frame = read_batch(batch, schema, sources)
        except Unreadable as told:
            verdicts.append(unreadable_verdict(batch.id, schema.version, told))
            continue
        verdict, bad = check_table(frame, schema, batch.id, definition, batch.known_at)
        if verdict.stops:
            link = {"step": context.step, "output": "output1", "rows": bad.height}
            verdict = replace(verdict, evidence=verdict.evidence | {"bad_rows": link})
            rejected.append(_marked(bad, batch, clock))
        else:
            tables.append(source, batch.id, _marked(convert_to_schema(frame, schema), batch, clock))
        verdicts.append(verdict)
    return verdicts, _together(rejected) if rejected else None


def _waiting(
    source: str, until: datetime, schema: Schema, sources: Sources, books: BooksReader, context: Context
) -> list[Batch]:
    """The batches that were neither let in, nor stopped in another run under this schema or a newer one."""
    here = context.environment
    stopped = {
        verdict.subject: verdict.read(SchemaEvidence).schema_version
        for verdict in books.verdicts.find(check="schema", action="stop", environment=here)
        if verdict.run != context.run  # a resumed run asks again
    }
    admitted = books.verdicts.values("subject", check="schema", action="proceed", environment=here)
    return [
        batch
        for batch in sources.batches(source, until)
        if batch.id not in admitted and stopped.get(batch.id, -1) < schema.version
    ]


def read_batch(batch: Batch, schema: Schema, sources: Sources) -> pl.DataFrame:
    """The rows of a batch, read as its schema means them."""
    return sources.read(replace(batch, texts=schema.texts))


def _together(frames: list[pl.DataFrame]) -> pl.DataFrame:
    """Frames one below the other; where their types cannot be reconciled, as text."""
    try:
        return pl.concat(frames, how="diagonal_relaxed")
    except pl.exceptions.PolarsError:
        return pl.concat([frame.select(pl.all().cast(pl.String, strict=False)) for frame in frames], how="diagonal")


def _marked(frame: pl.DataFrame, batch: Batch, clock: Clock) -> pl.DataFrame:
    """The rows with where they come from and when: of a file that comes again, only the last ones count."""
    arrived = pl.lit(clock.now()).cast(pl.Datetime("us", "UTC"))
    return frame.with_columns(
        pl.lit(batch.id).alias("_batch"), pl.lit(batch.path).alias("_path"), arrived.alias(ARRIVED)
    )


def schema_in_force(source: str, until: datetime, sources: Sources, books: Books, clock: Clock) -> Schema:
    """The schema in force: the newest accepted one; a declared one of a higher version becomes the newest."""
    versions = sorted(books.schemas.find(source=source), key=lambda version: version.version)
    declared = sources.schema(source)
    newest = versions[-1].schema if versions else None
    if declared is not None and (newest is None or declared.version > newest.version):
        return _accept(books, clock, declared, "file").schema
    if newest is not None:
        return newest
    return _accept(books, clock, _inferred(source, until, sources), "inferred").schema


def _inferred(source: str, until: datetime, sources: Sources) -> Schema:
    """A schema from the first batch that has rows."""
    definition = sources.definition(source)
    times = tuple(name for name in (definition.time, definition.known_at) if name)
    batches = sources.batches(source, until)
    if not batches:
        raise DataError(f"source {source!r} has no rows yet", "wait for the first, or give it a schema file")
    found = None
    for batch in batches:
        with suppress(Unreadable):  # it will be told of when it is judged
            found = sources.read(batch)
        if found is not None and found.height:
            break
    frame = found if found is not None else sources.read(batches[0])
    return infer_schema(frame, source, definition.key, times=times, later=definition.later)


def accept_change(
    source: str,
    tables: list[tuple[pl.DataFrame, datetime]],
    reason: str,
    until: datetime,
    sources: Sources,
    books: Books,
    clock: Clock,
) -> SchemaVersion:
    """A new version of a source's schema, widened just so far that it lets these tables in, each as it arrived then."""
    schema = schema_in_force(source, until, sources, books, clock)
    version = schema.version + 1
    for frame, arrived in (*tables, *tables):  # a column that came with a later table may be absent from an earlier one
        schema = widen_schema(schema, frame, sources.definition(source), arrived)
    return _accept(books, clock, replace(schema, version=version), "hand", reason)


def stopped_batches(
    source: str, until: datetime, sources: Sources, books: BooksReader, environment: str
) -> list[Batch]:
    """The batches that were stopped, by whichever schema, and not let in since."""
    out = kept_out(books, environment)
    return [batch for batch in sources.batches(source, until) if batch.id in out]


def kept_out(books: BooksReader, environment: str) -> set[str]:
    """The ids of the batches that were stopped by their schemas and not let in since."""
    here = {"check": "schema", "environment": environment}
    stopped = books.verdicts.values("subject", action="stop", **here)
    return stopped - books.verdicts.values("subject", action="proceed", **here) if stopped else stopped


def _accept(books: Books, clock: Clock, schema: Schema, by: str, reason: str = "") -> SchemaVersion:
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
def count_admitted(source: str, verdicts: list[Verdict], tables: Tables) -> Admission:
    """What the ingestion came to."""
    return Admission(
        table=source,
        version=tables.version(source),
        batches=len(verdicts),
        rows=sum(verdict.read(SchemaEvidence).rows for verdict in verdicts),
    )


@pipeline
def ingestion(policy: ModelPolicy, until: datetime) -> None:
    """Let in what is new in the source of a model."""
    verdicts, _rejected = ingest(policy.problem.source, until)
    count_admitted(policy.problem.source, verdicts)


@step
def materialize(features: FeatureSet, now: datetime, sources: Sources, online: Online) -> dict[str, int]:
    """Write the present values of every view to the online store."""
    return {view.name: write_online(view, sources, online, now) for view in features.views}


@pipeline
def materialization(features: FeatureSet, now: datetime) -> None:
    """Bring the online store up to now."""
    materialize(features, now)
