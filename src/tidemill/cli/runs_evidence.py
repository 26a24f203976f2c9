"""`runs show`, `logs`, `diff`, `lineage`, `export`: what a run left."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.cli.runs import runs
from tidemill.cli.session import Environment, Json, workspace_here
from tidemill.errors import InputError, NotFound

if TYPE_CHECKING:
    from tidemill.workspace.workspace import Workspace


RunId = Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or its beginning.")]


@runs.command("show")
def show_run(run_id: RunId, json: Json = False) -> None:
    """One run: its versions, times, parameters, metrics and verdicts; each step and why it ran; its artifacts."""
    from tidemill.cli.run_page import show
    from tidemill.evidence.run_details import read_run_details

    story = read_run_details(workspace_here()[1].ledger, run_id)
    if json:
        output.as_json(story)
    else:
        show(story)


@runs.command("logs")
def logs(
    run_id: RunId,
    step: Annotated[str, typer.Option(help="Only this step's.")] = "",
    full: Annotated[bool, typer.Option("--full", help="All that was kept, not only the end.")] = False,
    json: Json = False,
) -> None:
    """What the steps of a run printed, and the traceback of what failed."""
    from tidemill.evidence.identify import find_run
    from tidemill.evidence.run_details import list_steps

    _, workspace = workspace_here()
    books = workspace.ledger
    run = find_run(books, run_id)
    steps = list_steps(books, run.id)
    if step and step not in {one.step for one in steps}:
        known = ", ".join(dict.fromkeys(one.step for one in steps)) or "none"
        raise NotFound(f"run {output.short(run.id)} has no step {step!r}", f"its steps are: {known}")
    left = {one.id: one for one in steps if step in ("", one.step) and (one.log or one.log_blob)}
    texts = {key: _kept(workspace, one.log_blob, one.log) if full else one.log for key, one in left.items()}
    if json:
        output.as_json([{"step": one.step, "state": one.state, "log": texts[key]} for key, one in left.items()])
        return
    for key, one in left.items():
        tried = f", try {one.attempt}" if one.attempt > 1 else ""
        output.out.print(f"── {one.step} ({one.state}{tried})", style="bold")
        output.out.print(texts[key].rstrip("\n"))
        if one.log_blob and not full:
            output.err.print(f"that is its end: `tidemill runs logs {output.short(run.id)} --step {one.step} --full`")
    if not left:
        output.err.print("no step of it left a log")


def _kept(workspace: "Workspace", digest: str, end: str) -> str:
    """The whole log of a step; its end where the rest was collected."""
    if not digest:
        return end
    try:
        return workspace.blobs.get(digest).decode(errors="replace")
    except NotFound:
        return f"(the whole log was collected; its end:)\n{end}"


@runs.command("diff")
def diff(
    a: Annotated[str, typer.Argument(help="A run.")],
    b: Annotated[str, typer.Argument(help="Another run.")],
    json: Json = False,
) -> None:
    """What differs between two runs: graph, code, parameters, versions, inputs, outputs, metrics, times."""
    from tidemill.cli.diff_table import show
    from tidemill.evidence.diff import compare_runs
    from tidemill.evidence.run_details import read_run_details

    _, workspace = workspace_here()
    first, second = (read_run_details(workspace.ledger, one) for one in (a, b))
    packages = _packages(workspace, first.run.packages), _packages(workspace, second.run.packages)
    found = compare_runs(first, second, packages)
    if json:
        output.as_json(found)
    else:
        show(found)


def _packages(workspace: "Workspace", digest: str) -> dict[str, str]:
    """The installed packages that a blob lists; none where it was collected."""
    from tidemill.evidence.diff import parse_packages

    try:
        return parse_packages(workspace.blobs.get(digest)) if digest else {}
    except NotFound:
        return {}


@runs.command("lineage")
def lineage(
    identifier: Annotated[
        str, typer.Argument(metavar="ID", help="A run, an artifact's digest, a prediction, or a release (flights/3).")
    ],
    down: Annotated[bool, typer.Option("--down/--up", help="What was made from it, or what went into it.")] = False,
    depth: Annotated[int, typer.Option(min=0, help="At most so many levels; 0: to the end.")] = 0,
    svg: Annotated[Path | None, typer.Option(help="Write a picture to this file.")] = None,
    env: Environment = "production",
    json: Json = False,
) -> None:
    """What went into an artifact, a run, a release or a prediction, or what was made from it."""
    from tidemill.evidence.identify import identify
    from tidemill.evidence.lineage import trace_lineage
    from tidemill.evidence.tree import as_svg, as_text

    project, workspace = workspace_here(env)
    books, journal = workspace.ledger, workspace.journal
    named = identify(books, identifier, journal, list(project.policy.models), env)
    found = trace_lineage(books, named, "down" if down else "up", depth=depth, journal=journal, environment=env)
    if svg is not None:
        output.write(svg, as_svg(found))
    elif json:
        output.as_json(found)
    else:
        output.out.print(as_text(found))
        if found.cut and not depth:
            output.err.print(f"{len(found.cut)} branches were not followed further: begin at one of them (…)")


@runs.command("export")
def export(
    run_id: RunId,
    form: Annotated[str, typer.Option("--format", help="How: openlineage.")] = "openlineage",
    url: Annotated[str, typer.Option(help="Send the events to this address instead, one by one.")] = "",
) -> None:
    """A run and its steps as events of OpenLineage, a line of JSON for each."""
    import msgspec

    from tidemill.evidence.openlineage import export_events
    from tidemill.evidence.run_details import read_run_details
    from tidemill.evidence.sending import send_events

    if form != "openlineage":
        raise InputError(f"there is no format {form!r}", "use openlineage")
    project, workspace = workspace_here()
    told = [
        msgspec.json.encode(event) for event in export_events(read_run_details(workspace.ledger, run_id), project.name)
    ]
    if url:
        send_events(url, told)
        output.err.print(f"sent {len(told)} events to {url}")
    else:
        sys.stdout.buffer.writelines(event + b"\n" for event in told)
        sys.stdout.buffer.flush()
