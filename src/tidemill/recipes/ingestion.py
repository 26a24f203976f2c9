"""Ingestion: lets the new batches of a source in, each judged by its schema; and fills the online store."""

from datetime import datetime

import polars as pl
from msgspec import Struct

from tidemill.checks.table import infer, validate, widen
from tidemill.clock import Clock
from tidemill.core.check import Verdict
from tidemill.core.feature import FeatureSet
from tidemill.core.pipeline import pipeline, step
from tidemill.core.policy import ModelPolicy
from tidemill.core.resources import Batch, Books, Context, Online, SchemaVersion, Sources, Tables
from tidemill.core.schema import Schema
from tidemill.data.frame import ARRIVED
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
) -> list[Verdict]:
    """Judge every batch that is new (or was stopped under an older schema), and append those that fit."""
    schema = schema_in_force(source, until, sources, books, clock)
    here = context.environment
    stopped = {
        verdict.subject: int(verdict.evidence.get("schema_version", 0))
        for verdict in books.verdicts.find(check="schema", action="stop", environment=here)
    }
    admitted = books.verdicts.values("subject", check="schema", action="proceed", environment=here)
    verdicts = []
    for batch in sources.batches(source, until):
        if batch.id in admitted or stopped.get(batch.id, -1) >= schema.version:
            continue
        frame = sources.read(batch)
        verdict = validate(frame, schema, batch.id)
        if not verdict.stops:
            tables.append(source, batch.id, _marked(frame, batch, clock))
        verdicts.append(verdict)
    return verdicts


def _marked(frame: pl.DataFrame, batch: Batch, clock: Clock) -> pl.DataFrame:
    """The rows with where they come from and when: of a file that comes again, only the last ones count."""
    arrived = pl.lit(clock.now()).cast(pl.Datetime("us", "UTC"))
    return frame.with_columns(
        pl.lit(batch.id).alias("_batch"), pl.lit(batch.path).alias("_path"), arrived.alias(ARRIVED)
    )


def schema_in_force(source: str, until: datetime, sources: Sources, books: Books, clock: Clock) -> Schema:
    """The schema in force: the newest accepted one; a declared one that says something else becomes the newest."""
    versions = sorted(books.schemas.find(source=source), key=lambda version: version.version)
    declared = sources.schema(source)
    newest = versions[-1].schema if versions else None
    if declared is not None and (newest is None or declared.version > newest.version):
        return _accept(books, clock, declared, "file").schema
    if newest is not None:
        return newest
    first = sources.batches(source, until)[0]
    key = sources.definition(source).key
    return _accept(books, clock, infer(sources.read(first), source, key), "inferred").schema


def accept_change(
    source: str, frame: pl.DataFrame, reason: str, until: datetime, sources: Sources, books: Books, clock: Clock
) -> SchemaVersion:
    """A new version of a source's schema, widened just so far that it lets a table in."""
    schema = widen(schema_in_force(source, until, sources, books, clock), frame)
    return _accept(books, clock, schema, "hand", reason)


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
        rows=sum(int(verdict.evidence["rows"]) for verdict in verdicts),
    )


@pipeline
def ingestion(policy: ModelPolicy, until: datetime) -> None:
    """Let in what is new in the source of a model."""
    count_admitted(policy.problem.source, ingest(policy.problem.source, until))


@step
def materialize(features: FeatureSet, now: datetime, sources: Sources, online: Online) -> dict[str, int]:
    """Write the present values of every view to the online store."""
    return {view.name: write_online(view, sources, online, now) for view in features.views}


@pipeline
def materialization(features: FeatureSet, now: datetime) -> None:
    """Bring the online store up to now."""
    materialize(features, now)
