"""`data`: profiles tables, and checks them by the schemas of sources."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidemill.access.roles import DEVELOP
from tidemill.cli import output
from tidemill.cli.decisions import Reason, export_audit_head, record_decision
from tidemill.cli.session import EnvironmentOption, Json, load_session, require_actor
from tidemill.errors import DataError, InputError, MissingExtra, Stopped, Unreadable

if TYPE_CHECKING:
    import polars as pl


data = typer.Typer(no_args_is_help=True, help="Tables and their schemas.")
_MAX_ROWS = 1_000_000


@data.command("profile")
def profile(
    target: Annotated[
        str, typer.Argument(metavar="SOURCE|FILE", help="A source of the project, or a file with a table.")
    ],
    label: Annotated[
        str, typer.Option(help="The column to predict. Default for a source: the label of its model.")
    ] = "",
    report: Annotated[Path | None, typer.Option(help="The HTML file to write a report to.")] = None,
    json: Json = False,
) -> None:
    """Describe the columns of a table, and propose how to use or exclude each one."""
    from tidemill.checks.exploration import explore_table
    from tidemill.data.learning import learn_table

    nothing: dict[str, Any] = {}
    is_file = Path(target).is_file()
    frame, known = (learn_table(Path(target), ask=False).frame, nothing) if is_file else _read_source(target)
    known["label"] = label or known.get("label", "")
    if known["label"] and known["label"] not in frame.columns:
        raise InputError(f"{target} has no column {known['label']!r}", f"the columns are: {', '.join(frame.columns)}")
    table_profile, proposals = explore_table(frame, **known)
    if report is not None:
        _write_page(report, target, frame, table_profile, proposals)
    if json:
        output.print_json({"profile": table_profile, "proposals": proposals})
        return
    columns = ("column", "type", "missing", "distinct", "mean", "low", "high", "proposal")
    rows = []
    for column, proposal in zip(table_profile.columns, proposals, strict=True):
        advice = f"exclude: {proposal.reason}" if proposal.exclude else proposal.preparation or f"the {proposal.role}"
        numbers = (column.mean, column.low, column.high) if column.type in ("integer", "number") else (None,) * 3
        missing = f"{column.missing / max(column.rows, 1):.1%}"
        rows.append(
            [
                column.name,
                column.type,
                missing,
                f"{column.distinct or 0:,}",
                *map(output.format_cell, numbers),
                advice,
            ]
        )
    output.out.print(f"{target}: {table_profile.rows:,} rows")
    output.print_table(columns, rows)


def _read_source(name: str) -> tuple["pl.DataFrame", dict[str, Any]]:
    """Return the newest rows of a source, at most a million, and the roles of its columns in the policy."""
    import polars as pl

    session = load_session()
    definition = session.sources.definition(name)
    frames: list[pl.DataFrame] = []
    for batch in reversed(session.sources.batches(name, session.clock.now())):
        frames.append(session.sources.read(batch))
        if sum(frame.height for frame in frames) >= _MAX_ROWS:
            break
    if not frames:
        raise DataError(f"source {name!r} has no rows yet", "wait for the first batch, or use a file")
    models = session.project.policy.models.values()
    label = next((model.problem.label for model in models if model.problem.source == name), "")
    frame = pl.concat(frames, how="diagonal_relaxed").head(_MAX_ROWS)
    return frame, {"label": label, "time": definition.time or "", "key": definition.key, "later": definition.later}


def _write_page(file: Path, title: str, frame: "pl.DataFrame", table_profile: Any, proposals: Any) -> None:
    from tidemill.core.columns import is_internal
    from tidemill.web.exploring import render, skrub_report

    skrub = ""
    try:
        skrub = skrub_report(frame.select(name for name in frame.columns if not is_internal(name)), title)
    except MissingExtra as missing:
        output.err.print(f"the report has no part by skrub: {missing}")
    output.write_file(file, render(title, table_profile, proposals, skrub))


@data.command("validate")
def validate(
    file: Annotated[Path, typer.Argument(help="A file with a table.")],
    source: Annotated[str, typer.Option(help="The source of the schema. Default: the source of the model.")] = "",
    json: Json = False,
) -> None:
    """Check a table by the schema of a source; the exit code is 0 if it passes, 3 if it fails."""
    from tidemill.checks.table import validate as check_table
    from tidemill.core.check import SchemaEvidence
    from tidemill.data.frame import add_times
    from tidemill.data.spellings import unify_columns
    from tidemill.data.tables import read_table
    from tidemill.recipes.ingestion import resolve_schema
    from tidemill.recipes.label_classes import close_labels, find_known_classes

    session = load_session(create=True)
    chosen = source or session.project.model().problem.source
    now, books = session.clock.now(), session.workspace.ledger
    workspace = session.workspace
    schema = resolve_schema(chosen, now, session.sources, books, session.clock)
    known = find_known_classes(chosen, schema, session.sources, workspace.tables, books, workspace.environment)
    schema = close_labels(schema, known)
    definition = session.sources.definition(chosen)
    table = read_table(file, definition.format, dialect=definition.dialect, empty=True, types=schema.types)
    table = unify_columns(table, session.sources.labels(chosen))
    rows = add_times(table, definition, chosen, now, lenient=True)
    verdict = check_table(rows, schema, str(file), definition, now)
    if json:
        output.print_json(verdict)
    else:
        output.out.print(f"{file}: {verdict.reason} (schema of {chosen!r}, version {schema.version})")
        for anomaly in verdict.read(SchemaEvidence).anomalies:
            output.out.print(f"  {anomaly['column'] or file.name}: {anomaly['what']}")
    if verdict.stops:
        cure = f"fix the file, or accept the change: `tidemill data accept {chosen} {file} --reason …`"
        raise Stopped(f"{file} fails the schema of source {chosen!r}", cure)


@data.command("schema")
def schema(
    source: Annotated[str, typer.Argument(help="The source. Default: the source of the model.")] = "",
    to: Annotated[Path | None, typer.Option(help="The file to write its next version to, for you to edit.")] = None,
) -> None:
    """Print the current schema of a source as TOML, or write it to a file."""
    from msgspec.structs import replace

    from tidemill.data.schema_file import format_schema, write_schema
    from tidemill.recipes.ingestion import resolve_schema

    session = load_session(create=True)
    chosen = source or session.project.model().problem.source
    schema = resolve_schema(chosen, session.clock.now(), session.sources, session.workspace.ledger, session.clock)
    if to is None:
        output.out.print(format_schema(schema))
        return
    if to.exists():
        raise InputError(f"{to} exists already", "use another file, or delete it")
    try:
        write_schema(replace(schema, version=schema.version + 1), to)
    except OSError as error:
        raise InputError(f"{to} cannot be written: {error.strerror}", "use another file") from None
    output.out.print(f"{to} is written: edit it, and add it to tidemill.toml")
    line = f'schema = "{_as_project_path(to, session.project.folder)}"'
    output.err.print(f"next: add {line} under [sources.{chosen}]; raise the version with each change")


def _as_project_path(file: Path, folder: Path) -> str:
    full = file.resolve()
    return (full.relative_to(folder.resolve()) if full.is_relative_to(folder.resolve()) else full).as_posix()


@data.command("accept")
def accept(
    source: Annotated[str, typer.Argument(help="The source.")],
    file: Annotated[Path | None, typer.Argument(help="A table to accept. Default: the stopped batches.")] = None,
    reason: Reason = "",
    env: EnvironmentOption = "production",
) -> None:
    """Widen a schema so that a table passes; the next ingestion checks stopped batches by the new version."""
    from tidemill.data.frame import add_times
    from tidemill.data.spellings import unify_columns
    from tidemill.data.tables import read_table
    from tidemill.recipes.ingestion import (
        accept_schema_change,
        find_pending_batches,
        find_stopped_batches,
        read_batch,
        resolve_schema,
    )
    from tidemill.recipes.label_classes import find_known_classes

    session = load_session(env)
    actor = require_actor(session, DEVELOP)
    now, books, sources = session.clock.now(), session.workspace.ledger, session.sources
    definition = sources.definition(source)
    schema = resolve_schema(source, now, sources, books, session.clock)
    stopped = find_stopped_batches(source, now, sources, books, env)
    pending = find_pending_batches(source, now, schema, sources, books, env)
    is_settled = file is None and not {batch.id for batch in stopped} <= {batch.id for batch in pending}
    if file is not None:
        table = read_table(file, definition.format, dialect=definition.dialect, empty=True, types=schema.types)
        table = unify_columns(table, sources.labels(source))
        tables = [(add_times(table, definition, source, now, lenient=True), now)]
    elif stopped:
        tables = []
        for batch in stopped:
            try:
                tables.append((read_batch(batch, schema, sources), batch.known_at))
            except Unreadable as error:
                output.err.print(f"skipped: {error.problem}", style="yellow")
        if not tables:
            raise InputError(f"no stopped batch of source {source!r} can be read", "fix the files, or delete them")
    else:
        raise InputError(f"no batch of source {source!r} is stopped", "add a file whose table the schema must accept")
    known = find_known_classes(source, schema, sources, session.workspace.tables, books, env)
    with books.transaction(durable=True):
        version = accept_schema_change(
            source, tables, reason, now, sources, books, session.clock, known, renew=is_settled
        )
        is_new = version.version > schema.version
        if is_new:
            record_decision(session, "accepted schema", f"{source}/{version.version}", reason, actor)
    export_audit_head(session)
    change = "has now" if is_new else "accepts this already: it has"
    output.out.print(f"the schema of {source!r} {change} version {version.version}")
    verdicts = [verdict for batch in stopped for verdict in books.verdicts.find(subject=batch.id, check="schema")]
    runs = sorted({verdict.run for verdict in verdicts if books.runs.get(verdict.run).state == "stopped"})
    resume = f"`tidemill runs resume {output.shorten_id(runs[-1])}`" if runs else "`tidemill run training`"
    output.err.print(f"next: {resume} ingests the stopped batches")
