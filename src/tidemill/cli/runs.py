"""`runs`: lists and searches runs, resumes and cancels them."""

import signal
from contextlib import suppress
from typing import Annotated, Any

import typer

from tidemill.cli import output
from tidemill.cli.run import Progress, cause_of_user, print_result, stop_on_signal
from tidemill.cli.session import Json, Limit, Within, given, nothing, session_here

runs = typer.Typer(no_args_is_help=True, help="What ran, and what it left.")


@runs.callback()
def look_after() -> None:
    """What ran, and what it left."""
    from tidemill.project.project import Project
    from tidemill.workspace.alive import Alive

    if next(Alive(Project.here().state_folder / "runs").dead(), None) is None:
        return
    from tidemill.flow.engine import sweep

    for died in sweep(session_here()):
        output.err.print(
            f"run {output.short(died.id)} died with its process: `tidemill runs resume {output.short(died.id)}`",
        )


@runs.command("resume")
def resume(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or its beginning.")],
    engine: Annotated[str, typer.Option(help="Where steps run; as before where it is not given.")] = "",
    json: Json = False,
) -> int:
    """Go on with a run that failed, was stopped, interrupted or cancelled, by the code as it is now."""
    from tidemill.flow.engine import resume as resume_run

    found = session_here().workspace.ledger.runs.get(run_id)
    session = session_here(found.environment)
    progress = Progress(quiet=json)
    with stop_on_signal(progress):
        done, failed = resume_run(session, found.id, cause=cause_of_user(), progress=progress.tell, engine=engine)
    return print_result(session, done, failed, json)


@runs.command("cancel")
def cancel(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="A run's id, or its beginning.")], json: Json = False
) -> None:
    """End a run; it can be resumed."""
    import os

    from tidemill.flow.engine import cancel as cancel_run

    cancelled, process = cancel_run(session_here(), run_id)
    if process is not None and process != os.getpid():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGTERM)
    if json:
        output.as_json(cancelled)
    else:
        where = "" if process is not None else f"; it ends at its next step boundary on {cancelled.host}"
        output.out.print(f"run {output.short(cancelled.id)} is cancelled{where}")


@runs.command("list")
def list_runs(
    pipeline: Annotated[str, typer.Option(help="Only this pipeline's.")] = "",
    state: Annotated[str, typer.Option(help="Only those in this state.")] = "",
    limit: Limit = 20,
    env: Within = "",
    json: Json = False,
) -> None:
    """The newest runs."""
    asked = given(pipeline=pipeline, state=state, environment=env)
    _print(session_here().workspace.ledger.runs.find(newest=True, limit=limit, **asked), asked, json)


@runs.command("search")
def search(
    text: Annotated[str, typer.Argument(help="Words that the run has, or their beginnings.")] = "",
    tag: Annotated[str, typer.Option(help="name=value")] = "",
    metric: Annotated[str, typer.Option(help="Such as test_log_loss<0.5")] = "",
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """Runs by text, tag and metric."""
    from tidemill.evidence.search import search as find

    asked = given(text=text, tag=tag, metric=metric)
    _print(find(session_here().workspace.ledger.runs, limit=limit, **asked), asked, json)


def _print(found: Any, asked: dict[str, Any], json: bool) -> None:
    columns = {
        "run": lambda r: output.short(r.id),
        "pipeline": lambda r: r.pipeline,
        "state": lambda r: r.state,
        "started": lambda r: r.started,
        "seconds": lambda r: r.seconds,
        "by": lambda r: r.started_by.trigger or r.started_by.by,
        "metrics": lambda r: "  ".join(f"{k}={v:.4f}" for k, v in list(r.metrics.items())[:2]),
    }
    output.records(found, columns, json=json, nothing=nothing(asked, "no runs yet: `tidemill run training`"))
