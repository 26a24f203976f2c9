"""Projects: start one, judge its data, look at its features."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidemill.cli import output
from tidemill.cli.opening import Environment, Json, session_here
from tidemill.errors import DataError, InputError, MissingExtra, NotFound, Stopped, Unreadable

if TYPE_CHECKING:
    import polars as pl

data = typer.Typer(no_args_is_help=True, help="Tables, judged by their schemas.")
features = typer.Typer(no_args_is_help=True, help="Feature views.")
_MOST_ROWS = 1_000_000


def init(
    name: Annotated[str, typer.Argument(help="The folder and name of the new project.")],
    table: Annotated[Path | None, typer.Option("--from", help="Your table: Parquet, CSV or JSON Lines.")] = None,
    label: Annotated[str, typer.Option(help="The column to predict.")] = "",
    time: Annotated[str, typer.Option(help="The column of the event time.")] = "",
    key: Annotated[str, typer.Option(help="The column that names a row.")] = "",
    task: Annotated[str, typer.Option(help="classification or regression; guessed otherwise.")] = "",
    exclude: Annotated[list[str] | None, typer.Option(help="A column to leave out; may be repeated.")] = None,
) -> None:
    """Make a project that runs at once, on your table or on a small invented one."""
    from msgspec.structs import replace

    from tidemill.core.policy import Training
    from tidemill.data.classes import order_classes
    from tidemill.data.keys import as_classes
    from tidemill.data.tables import read_table
    from tidemill.project.example import write_example
    from tidemill.project.guessing import guess
    from tidemill.project.starting import write_project

    folder = Path(name)
    if (folder / "tidemill.toml").exists():
        raise InputError(f"{folder} has a tidemill.toml already", "choose another name")
    if task not in ("", "classification", "regression"):
        raise InputError(f"there is no task {task!r}", "use classification or regression")
    if table is None:
        table, label, time, key = write_example(folder), "late", "ordered", "order_id"
    elif not label:
        raise InputError("which column is to be predicted?", "name it: --label COLUMN")
    frame = read_table(table)
    guessed = guess(frame, label, time=time, key=key, task=task, exclude=tuple(exclude or ()))
    classes = order_classes(as_classes(frame[label].drop_nulls()).unique()) if guessed.task == "classification" else ()
    guessed = replace(guessed, positive=classes[1] if len(classes) == 2 else "")
    write_project(folder, guessed, table)
    about = f"{guessed.task} of {label!r} from {len(guessed.inputs)} columns of {frame.height:,} rows"
    output.out.print(f"{folder}: {about}")
    if guessed.positive:
        output.out.print(f"  positive class: {guessed.positive!r} (positive under [problem])")
    for column, reason in guessed.excluded.items():
        output.out.print(f"  left out {column!r}: {reason}")
    output.out.print(f"  event time: {guessed.time or 'none found (--time)'}")
    if frame.height < (needed := Training().minimum_rows):
        output.out.print(f"  too few rows to train on: a training wants {needed} (minimum_rows under [training])")
    output.out.print(f"next: cd {shlex.quote(name)} && tidemill run training && tidemill serve")


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
    from tidemill.cli.models import write_down
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
    write_down(session, "accepted schema", f"{source}/{version.version}", reason, env)
    output.out.print(f"schema of {source!r} is now version {version.version}")
    verdicts = [one for batch in stopped for one in books.verdicts.find(subject=batch.id, check="schema")]
    runs = sorted({one.run for one in verdicts if books.runs.get(one.run).state == "stopped"})
    resume = f"`tidemill runs resume {output.short(runs[-1])}`" if runs else "`tidemill run training`"
    output.err.print(f"next: {resume} lets in what was stopped, and goes on with it")


@features.command("list")
def list_features(json: Json = False) -> None:
    """The views of features.py."""
    session = session_here()
    using = {view: model.name for model in session.project.policy.models.values() for view in model.inputs.views}
    columns = {
        "view": lambda v: v.name,
        "entity": lambda v: ", ".join(v.entity.keys),
        "source": lambda v: v.source,
        "features": lambda v: ", ".join(v.features),
        "used by": lambda v: using.get(v.name, ""),
        "owner": lambda v: v.owner,
        "description": lambda v: v.description,
    }
    output.records(list(session.project.code.views.values()), columns, json=json, nothing="features.py defines no view")


@features.command("get")
def get(
    view: Annotated[str, typer.Argument(help="A view of features.py.")],
    keys: Annotated[list[str] | None, typer.Argument(help="column=value for each key of the entity.")] = None,
    env: Environment = "production",
    json: Json = False,
) -> None:
    """The values of an entity in the online store."""
    import polars as pl

    from tidemill.core.resources import Online
    from tidemill.featurestore.lookup import entity_of

    session = session_here(env)
    definition = session.project.code.view(view)
    given = dict(key.partition("=")[::2] for key in keys or [])
    absent = [key for key in definition.entity.keys if key not in given]
    if absent:
        raise InputError(f"view {view!r} needs the key {absent[0]!r}", f"give it: {absent[0]}=VALUE")
    keys_as_rows = pl.DataFrame({key: [given[key]] for key in definition.entity.keys})
    (entity,) = entity_of(keys_as_rows, definition.entity.keys)
    found = session.resource(Online).read(view, [entity])[0]
    if found is None:
        raise NotFound(f"the online store knows no {entity!r} of {view!r}", "fill it: `tidemill run materialization`")
    if json:
        output.as_json({"as_of": found[0], **found[1]})
        return
    output.table(("feature", "value"), ([name, output.cell(value)] for name, value in found[1].items()))
