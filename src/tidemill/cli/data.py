"""`data`: tables, judged by their schemas."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidemill.cli import output
from tidemill.cli.decisions import record_decision
from tidemill.cli.session import Environment, Json, session_here
from tidemill.errors import DataError, InputError, MissingExtra, Stopped, Unreadable

if TYPE_CHECKING:
    import polars as pl


data = typer.Typer(no_args_is_help=True, help="Tables, judged by their schemas.")
_MOST_ROWS = 1_000_000


@data.command("profile")
def profile(
    target: Annotated[str, typer.Argument(metavar="SOURCE|FILE", help="A source of the project, or a table.")],
    label: Annotated[str, typer.Option(help="The column to predict; of a source, its model's.")] = "",
    report: Annotated[Path | None, typer.Option(help="Write a page to this HTML file.")] = None,
    json: Json = False,
) -> None:
    """What a table's columns hold, which of them to leave out, and what the others need."""
    from tidemill.checks.exploration import explore
    from tidemill.data.tables import read_table

    nothing: dict[str, Any] = {}
    frame, known = (read_table(Path(target)), nothing) if Path(target).is_file() else _source_rows(target)
    known["label"] = label or known.get("label", "")
    if known["label"] and known["label"] not in frame.columns:
        raise InputError(f"there is no column {known['label']!r}", f"the columns are: {', '.join(frame.columns)}")
    found, proposals = explore(frame, **known)
    if report is not None:
        _write_page(report, target, frame, found, proposals)
    if json:
        output.as_json({"profile": found, "proposals": proposals})
        return
    columns = ("column", "type", "missing", "distinct", "mean", "low", "high", "proposal")
    rows = []
    for column, proposal in zip(found.columns, proposals, strict=True):
        said = f"leave out: {proposal.reason}" if proposal.exclude else proposal.preparation or f"the {proposal.role}"
        numbers = (column.mean, column.low, column.high) if column.type in ("integer", "number") else (None,) * 3
        missing = f"{column.missing / max(column.rows, 1):.1%}"
        rows.append([column.name, column.type, missing, _counted(column.distinct), *map(output.cell, numbers), said])
    output.out.print(f"{target}: {found.rows:,} rows")
    output.table(columns, rows)


def _counted(distinct: int) -> str:
    from tidemill.data.sketch import KEPT

    return f"{'about ' if distinct >= KEPT else ''}{distinct:,}"


def _source_rows(name: str) -> tuple["pl.DataFrame", dict[str, Any]]:
    """The rows of a source, the newest million of them, and what the policy says of its columns."""
    import polars as pl

    session = session_here()
    definition = session.sources.definition(name)
    kept: list[pl.DataFrame] = []
    for batch in reversed(session.sources.batches(name, session.clock.now())):
        kept.append(session.sources.read(batch))
        if sum(frame.height for frame in kept) >= _MOST_ROWS:
            break
    if not kept:
        raise DataError(f"source {name!r} has no rows yet", "wait for the first, or name a table")
    models = session.project.policy.models.values()
    label = next((model.problem.label for model in models if model.problem.source == name), "")
    frame = pl.concat(kept, how="diagonal_relaxed").head(_MOST_ROWS)
    return frame, {"label": label, "time": definition.time or "", "key": definition.key, "later": definition.later}


def _write_page(file: Path, title: str, frame: "pl.DataFrame", found: Any, proposals: Any) -> None:
    from tidemill.web.exploring import render, skrub_report

    skrub = ""
    try:
        skrub = skrub_report(frame.select(name for name in frame.columns if not name.startswith("_")), title)
    except MissingExtra as absent:
        output.err.print(f"without skrub's part of the page: {absent}")
    output.write(file, render(title, found, proposals, skrub))


@data.command("validate")
def validate(
    file: Annotated[Path, typer.Argument(help="A table.")],
    source: Annotated[str, typer.Option(help="The source whose schema judges it.")] = "",
    json: Json = False,
) -> None:
    """Judge a table by a source's schema; exit 0 when it fits, 3 when it does not."""
    from tidemill.checks.table import validate as judge
    from tidemill.core.check import SchemaEvidence
    from tidemill.data.frame import in_time
    from tidemill.data.tables import read_table
    from tidemill.recipes.ingestion import schema_in_force

    session = session_here()
    chosen = source or session.project.model().problem.source
    now, books = session.clock.now(), session.workspace.ledger
    schema = schema_in_force(chosen, now, session.sources, books, session.clock)
    definition = session.sources.definition(chosen)
    table = read_table(file, definition.format, empty=True, texts=schema.texts)
    rows = in_time(table, definition, chosen, now, lenient=True)
    verdict = judge(rows, schema, str(file), definition, now)
    if json:
        output.as_json(verdict)
    else:
        output.out.print(f"{file}: {verdict.reason} (schema of {chosen!r}, version {schema.version})")
        for anomaly in verdict.read(SchemaEvidence).anomalies:
            output.out.print(f"  {anomaly['column'] or file.name}: {anomaly['what']}")
    if verdict.stops:
        cure = f"mend the file, or accept the change: `tidemill data accept {chosen} {file}`"
        raise Stopped(f"{file} does not fit the schema of {chosen!r}", cure)


@data.command("schema")
def schema(
    source: Annotated[str, typer.Argument(help="The source; the model's where none is given.")] = "",
    to: Annotated[Path | None, typer.Option(help="Write it to this file, as its next version, to be edited.")] = None,
) -> None:
    """The schema in force, as it stands in a file that can be edited."""
    from msgspec.structs import replace

    from tidemill.data.schema_file import as_toml, write_schema
    from tidemill.recipes.ingestion import schema_in_force

    session = session_here()
    chosen = source or session.project.model().problem.source
    found = schema_in_force(chosen, session.clock.now(), session.sources, session.workspace.ledger, session.clock)
    if to is None:
        output.out.print(as_toml(found))
        return
    if to.exists():
        raise InputError(f"{to} is there already", "name another file, or remove it")
    try:
        write_schema(replace(found, version=found.version + 1), to)
    except OSError as refused:
        raise InputError(f"{to} cannot be written: {refused.strerror}", "name another file") from None
    output.out.print(f"wrote {to}: edit it, and name it in tidemill.toml")
    declared = f'schema = "{_from_project(to, session.project.folder)}"'
    output.err.print(f"next: {declared} under [sources.{chosen}]; each later change needs a higher version")


def _from_project(file: Path, folder: Path) -> str:
    here = file.resolve()
    return (here.relative_to(folder.resolve()) if here.is_relative_to(folder.resolve()) else here).as_posix()


@data.command("accept")
def accept(
    source: Annotated[str, typer.Argument(help="The source.")],
    file: Annotated[Path | None, typer.Argument(help="A table to let in; otherwise whatever was stopped.")] = None,
    reason: Annotated[str, typer.Option(help="Why; it is kept.")] = "",
    env: Environment = "production",
) -> None:
    """Make a new version of a schema that lets a table in; a batch that was stopped is judged again by it."""
    from tidemill.data.frame import in_time
    from tidemill.data.tables import read_table
    from tidemill.recipes.ingestion import accept_change, read_batch, schema_in_force, stopped_batches

    session = session_here(env)
    now, books, sources = session.clock.now(), session.workspace.ledger, session.sources
    definition = sources.definition(source)
    schema = schema_in_force(source, now, sources, books, session.clock)
    stopped = stopped_batches(source, now, sources, books, env)
    if file is not None:
        table = read_table(file, definition.format, empty=True, texts=schema.texts)
        tables = [(in_time(table, definition, source, now, lenient=True), now)]
    elif stopped:
        tables = []
        for batch in stopped:
            try:
                tables.append((read_batch(batch, schema, sources), batch.known_at))
            except Unreadable as told:
                output.err.print(f"left out: {told.problem}", style="yellow")
        if not tables:
            raise InputError(f"no batch of {source!r} that was stopped can be read", "mend the files, or remove them")
    else:
        raise InputError(f"no batch of {source!r} is stopped", "name a table that its schema should let in")
    version = accept_change(source, tables, reason, now, sources, books, session.clock)
    record_decision(session, "accepted schema", f"{source}/{version.version}", reason, env)
    output.out.print(f"schema of {source!r} is now version {version.version}")
    verdicts = [one for batch in stopped for one in books.verdicts.find(subject=batch.id, check="schema")]
    runs = sorted({one.run for one in verdicts if books.runs.get(one.run).state == "stopped"})
    resume = f"`tidemill runs resume {output.short(runs[-1])}`" if runs else "`tidemill run training`"
    output.err.print(f"next: {resume} lets in what was stopped, and goes on with it")
