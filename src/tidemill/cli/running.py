"""Runs: start a pipeline, look at what ran."""

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from tidemill.cli import output
from tidemill.cli.opening import Environment, Json, session_here
from tidemill.core.run import StepRun
from tidemill.errors import InputError

runs = typer.Typer(no_args_is_help=True, help="What ran, and what it left.")
NOUNS = {"runs": runs}


def add_to(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command("run")(run)
    app.command("show")(show)


def run(
    name: Annotated[str, typer.Argument(help="A pipeline of pipeline.py.")],
    param: Annotated[list[str] | None, typer.Option("--param", "-p", help="name=value; may be repeated.")] = None,
    env: Environment = "production",
    engine: Annotated[str, typer.Option(help="Where steps run.")] = "inline",
    cause: Annotated[str, typer.Option(hidden=True)] = "",
    json: Json = False,
) -> int:
    """Run a pipeline of the project."""
    import msgspec

    from tidemill.flow.engine import run as run_pipeline

    if engine != "inline":
        raise InputError(f"there is no engine {engine!r}", "use one of: inline")
    params = _params(param or [])
    session = session_here(env)
    pipeline = session.project.code.pipeline(name)
    because: dict[str, Any] = msgspec.json.decode(cause, type=dict) if cause else {"by": "hand", "user": _user()}
    done, failed = run_pipeline(session, pipeline, params, cause=because, progress=None if json else Progress().tell)
    if json:
        output.as_json(done)
    elif failed is None:
        measured = "  ".join(f"{key} {value:.4f}" for key, value in done.metrics.items() if key.startswith("test_"))
        output.out.print(f"{name} done in {done.seconds:.1f} s  run {output.short(done.id)}  {measured}", markup=False)
        _told_releases(session, done.id)
    if failed is not None:
        raise failed
    return 0


def _told_releases(session: Any, run_id: str) -> None:
    from tidemill.registry.routing import current

    for release in session.workspace.ledger.releases.find(run=run_id):
        route = current(session.workspace.ledger, session.workspace.environment, release.name)
        arm = next((a for a in route.arms if a.release == release.label), None) if route else None
        state = f"answers as {arm.role} ({arm.share:.0%})" if arm else "does not answer yet: see `tidemill events list`"
        output.out.print(f"release {release.label} {state}", markup=False)


def _params(given: list[str]) -> dict[str, str]:
    params = {}
    for one in given:
        name, equals, value = one.partition("=")
        if not equals:
            raise InputError(f"--param {one!r} is not name=value", "write it as --param depth=6")
        params[name] = value
    return params


def _user() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return ""


class Progress:
    """A line on stderr for each step that is over; on a terminal the running one is shown too."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._began = time.monotonic()

    def tell(self, step: StepRun) -> None:
        if step.state == "running":
            if self._live:
                output.err.print(f"  … {step.step}", end="\r", markup=False)
            return
        seconds = f"{step.seconds:6.2f} s" if step.seconds is not None else " " * 8
        output.err.print(f"  {step.state:8} {seconds}  {step.step:22} {step.error or step.reason}", markup=False)


@runs.command("list")
def list_runs(
    pipeline: Annotated[str, typer.Option(help="Only this pipeline's.")] = "",
    state: Annotated[str, typer.Option(help="Only those in this state.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many.")] = 20,
    env: Environment = "",
    json: Json = False,
) -> None:
    """The newest runs."""
    wanted = {"pipeline": pipeline, "state": state, "environment": env}
    found = session_here(env or "production").workspace.ledger.runs.find(
        newest=True, limit=limit, **{name: value for name, value in wanted.items() if value}
    )
    _print(found, json)


@runs.command("search")
def search(
    text: Annotated[str, typer.Argument(help="Text anywhere in the run.")] = "",
    tag: Annotated[str, typer.Option(help="name=value")] = "",
    metric: Annotated[str, typer.Option(help="Such as test_log_loss<0.5")] = "",
    limit: int = 50,
    json: Json = False,
) -> None:
    """Runs by text, tag and metric."""
    from tidemill.evidence.search import fits

    found = session_here().workspace.ledger.runs.find(newest=True, text=text)
    _print([run for run in found if fits(run.tags, run.metrics, tag, metric)][:limit], json)


def _print(found: Any, json: bool) -> None:
    columns = {
        "run": lambda r: output.short(r.id),
        "pipeline": lambda r: r.pipeline,
        "state": lambda r: r.state,
        "started": lambda r: r.started,
        "seconds": lambda r: r.seconds,
        "by": lambda r: r.cause.get("trigger") or r.cause.get("by", ""),
        "metrics": lambda r: "  ".join(f"{k}={v:.4f}" for k, v in list(r.metrics.items())[:2]),
    }
    output.records(found, columns, json=json, nothing="no runs yet: `tidemill run training`")


@runs.command("show")
def show_run(run_id: Annotated[str, typer.Argument(metavar="RUN")], json: Json = False) -> None:
    """One run: its steps and why each ran or not, its artifacts, verdicts and metrics."""
    from tidemill.evidence.story import story_of

    story = story_of(session_here().workspace.ledger, run_id)
    if json:
        output.as_json(story)
        return
    output.record(story.run, json=False)
    rows = (
        [s.step, s.state, output.cell(s.seconds), s.reason, "  ".join(f"{n}={d[:10]}" for n, d in s.outputs.items())]
        for s in story.steps
    )
    output.out.print()
    output.table(("step", "state", "seconds", "why", "gave"), rows)
    for verdict in story.verdicts:
        output.out.print(
            f"verdict {verdict.check}: {verdict.outcome} → {verdict.action}: {verdict.reason}", markup=False
        )


@runs.command("logs")
def logs(run_id: Annotated[str, typer.Argument(metavar="RUN")]) -> None:
    """The tracebacks that the steps of a run left."""
    from tidemill.evidence.story import story_of

    story = story_of(session_here().workspace.ledger, run_id)
    left = [step for step in story.steps if step.log]
    for step in left:
        output.out.print(f"── {step.step} ({step.state})\n{step.log}", markup=False)
    if not left:
        output.err.print("no step of it left a log")


def show(
    name: Annotated[str, typer.Argument(help="A pipeline of pipeline.py.")],
    svg: Annotated[Path | None, typer.Option(help="Write a picture to this file.")] = None,
    json: Json = False,
) -> None:
    """A pipeline's graph: its steps, and what each needs."""
    from tidemill.flow.drawing import as_svg, as_text
    from tidemill.flow.plan import plan

    session = session_here()
    graph = plan(session.project.code.pipeline(name), {}, session.project, session.clock)
    if json:
        output.as_json({node.name: list(node.needs) for node in graph.nodes.values()})
    elif svg is not None:
        svg.write_text(as_svg(graph), encoding="utf-8")
        output.err.print(f"wrote {svg}")
    else:
        output.out.print(as_text(graph), markup=False)
