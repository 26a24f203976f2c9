"""`runs show`, `logs`, `diff`, `lineage`, `export`: show the records of a run."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.cli.runs import runs
from tidemill.cli.session import EnvironmentOption, Json, load_workspace
from tidemill.errors import InputError, NotFound

if TYPE_CHECKING:
    from tidemill.workspace.workspace import Workspace


RunId = Annotated[str, typer.Argument(metavar="RUN", help="The id of a run, or its beginning.")]


@runs.command("show")
def show_run(run_id: RunId, json: Json = False) -> None:
    """Show a run: versions, times, parameters, metrics, verdicts, artifacts, and the reason why each step ran."""
    from tidemill.cli.run_page import show
    from tidemill.evidence.run_details import read_run_details

    details = read_run_details(load_workspace()[1].ledger, run_id)
    if json:
        output.print_json(details)
    else:
        show(details)


@runs.command("logs")
def logs(
    run_id: RunId,
    step: Annotated[str, typer.Option(help="Only the log of this step.")] = "",
    full: Annotated[bool, typer.Option("--full", help="The whole log, not only its end.")] = False,
    json: Json = False,
) -> None:
    """Show the output of the steps of a run, and the traceback of a failed step."""
    from tidemill.evidence.identify import find_run
    from tidemill.evidence.run_details import list_steps

    _, workspace = load_workspace()
    books = workspace.ledger
    run = find_run(books, run_id)
    steps = list_steps(books, run.id)
    if step and step not in {record.step for record in steps}:
        known = ", ".join(dict.fromkeys(record.step for record in steps)) or "none"
        raise NotFound(f"run {output.shorten_id(run.id)} has no step {step!r}", f"its steps are: {known}")
    logged = {record.id: record for record in steps if step in ("", record.step) and (record.log or record.log_blob)}
    texts = {
        key: _read_log(workspace, record.log_blob, record.log) if full else record.log for key, record in logged.items()
    }
    if json:
        output.print_json(
            [{"step": record.step, "state": record.state, "log": texts[key]} for key, record in logged.items()]
        )
        return
    for key, record in logged.items():
        attempt = f", attempt {record.attempt}" if record.attempt > 1 else ""
        output.out.print(f"── {record.step} ({record.state}{attempt})", style="bold")
        output.out.print(texts[key].rstrip("\n"))
        if record.log_blob and not full:
            command = f"tidemill runs logs {output.shorten_id(run.id)} --step {record.step} --full"
            output.err.print(f"only the end of the log is shown; for all of it: `{command}`")
    if not logged:
        output.err.print("no step of the run wrote a log")


def _read_log(workspace: "Workspace", digest: str, end: str) -> str:
    """Return the whole log of a step, or its end if the rest was collected."""
    if not digest:
        return end
    try:
        return workspace.blobs.get(digest).decode(errors="replace")
    except NotFound:
        return f"(only the end of the log is still stored:)\n{end}"


@runs.command("diff")
def diff(
    a: Annotated[str, typer.Argument(help="A run.")],
    b: Annotated[str, typer.Argument(help="Another run.")],
    json: Json = False,
) -> None:
    """Compare two runs: graph, code, parameters, versions, inputs, outputs, metrics, durations."""
    from tidemill.cli.diff_table import show
    from tidemill.evidence.diff import compare_runs
    from tidemill.evidence.run_details import read_run_details

    _, workspace = load_workspace()
    first, second = (read_run_details(workspace.ledger, run_id) for run_id in (a, b))
    packages = _read_packages(workspace, first.run.packages), _read_packages(workspace, second.run.packages)
    diff = compare_runs(first, second, packages)
    if json:
        output.print_json(diff)
    else:
        show(diff)


def _read_packages(workspace: "Workspace", digest: str) -> dict[str, str]:
    """Return the packages in a blob, empty if it was collected."""
    from tidemill.evidence.diff import parse_packages

    try:
        return parse_packages(workspace.blobs.get(digest)) if digest else {}
    except NotFound:
        return {}


@runs.command("lineage")
def lineage(
    identifier: Annotated[
        str,
        typer.Argument(metavar="ID", help="A run, the digest of an artifact, a prediction, or a release (flights/3)."),
    ],
    down: Annotated[bool, typer.Option("--down/--up", help="Follow its outputs, or its inputs.")] = False,
    depth: Annotated[int, typer.Option(min=0, help="The maximum number of levels; 0: no limit.")] = 0,
    svg: Annotated[Path | None, typer.Option(help="The SVG file to write a picture to.")] = None,
    env: EnvironmentOption = "production",
    json: Json = False,
) -> None:
    """Show the inputs of an artifact, a run, a release or a prediction, or its outputs."""
    from tidemill.evidence.identify import identify
    from tidemill.evidence.lineage import trace_lineage
    from tidemill.evidence.tree import as_svg, as_text

    project, workspace = load_workspace(env)
    books, journal = workspace.ledger, workspace.journal
    subject = identify(books, identifier, journal, list(project.policy.models), env)
    lineage = trace_lineage(books, subject, "down" if down else "up", depth=depth, journal=journal, environment=env)
    if svg is not None:
        output.write_file(svg, as_svg(lineage))
    elif json:
        output.print_json(lineage)
    else:
        output.out.print(as_text(lineage))
        if lineage.cut and not depth:
            output.err.print(
                f"{len(lineage.cut)} branches are not complete (…): to follow one, run the command with its id"
            )


@runs.command("export")
def export(
    run_id: RunId,
    file_format: Annotated[str, typer.Option("--format", help="The format: openlineage.")] = "openlineage",
    url: Annotated[str, typer.Option(help="The address to send the events to, instead of printing them.")] = "",
) -> None:
    """Export a run and its steps as OpenLineage events, one line of JSON for each."""
    import msgspec

    from tidemill.evidence.openlineage import export_events
    from tidemill.evidence.run_details import read_run_details
    from tidemill.evidence.sending import send_events

    if file_format != "openlineage":
        raise InputError(f"there is no format {file_format!r}", "use openlineage")
    project, workspace = load_workspace()
    events = [
        msgspec.json.encode(event) for event in export_events(read_run_details(workspace.ledger, run_id), project.name)
    ]
    if url:
        send_events(url, events)
        output.err.print(f"sent {len(events)} events to {url}")
    else:
        sys.stdout.buffer.writelines(event + b"\n" for event in events)
        sys.stdout.buffer.flush()
