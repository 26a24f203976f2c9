"""`runs`: lists and searches runs, resumes and cancels them."""

import signal
from contextlib import suppress
from typing import Annotated, Any

import typer

from tidemill.cli import output
from tidemill.cli.run import RunProgress, describe_user_cause, print_result, stop_on_signal
from tidemill.cli.session import EnvironmentFilterOption, Json, Limit, describe_empty, load_session, select_filters

runs = typer.Typer(no_args_is_help=True, help="Runs of pipelines.")


@runs.callback()
def mark_dead_runs() -> None:
    """Runs of pipelines."""
    from tidemill.project.project import Project
    from tidemill.workspace.run_locks import RunLocks

    if next(RunLocks(Project.find().state_folder / "runs").list_dead(), None) is None:
        return
    from tidemill.flow.engine import sweep

    for run in sweep(load_session()):
        run_id = output.shorten_id(run.id)
        output.err.print(f"run {run_id} is interrupted, because its process died: `tidemill runs resume {run_id}`")


@runs.command("resume")
def resume(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The id of a run, or its beginning.")],
    engine: Annotated[str, typer.Option(help="inline or processes. Default: the same as before.")] = "",
    json: Json = False,
) -> int:
    """Resume a run that failed, was stopped, interrupted or cancelled, with the current code."""
    from tidemill.flow.engine import resume as resume_run

    found = load_session().workspace.ledger.runs.get(run_id)
    session = load_session(found.environment)
    progress = RunProgress(quiet=json)
    with stop_on_signal(progress):
        done, failed = resume_run(
            session, found.id, cause=describe_user_cause(), progress=progress.report, engine=engine
        )
    return print_result(session, done, failed, json)


@runs.command("cancel")
def cancel(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The id of a run, or its beginning.")], json: Json = False
) -> None:
    """Cancel a run; it can be resumed."""
    import os

    from tidemill.flow.engine import cancel as cancel_run

    cancelled, process = cancel_run(load_session(), run_id)
    if process is not None and process != os.getpid():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process, signal.SIGTERM)
    if json:
        output.print_json(cancelled)
    else:
        delay = "" if process is not None else f"; it stops after its current step on {cancelled.host}"
        output.out.print(f"run {output.shorten_id(cancelled.id)} is cancelled{delay}")


@runs.command("list")
def list_runs(
    pipeline: Annotated[str, typer.Option(help="Only runs of this pipeline.")] = "",
    state: Annotated[str, typer.Option(help="Only runs in this state.")] = "",
    limit: Limit = 20,
    env: EnvironmentFilterOption = "",
    json: Json = False,
) -> None:
    """List the newest runs."""
    filters = select_filters(pipeline=pipeline, state=state, environment=env)
    _print(load_session().workspace.ledger.runs.find(newest=True, limit=limit, **filters), filters, json)


@runs.command("search")
def search(
    text: Annotated[str, typer.Argument(help="Words, or their beginnings, in the text of the run.")] = "",
    tag: Annotated[str, typer.Option(help="A tag, as NAME=VALUE.")] = "",
    metric: Annotated[str, typer.Option(help="A limit, such as test_log_loss<0.5.")] = "",
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """Find runs by text, tag and metric."""
    from tidemill.evidence.search import search as find_records

    filters = select_filters(text=text, tag=tag, metric=metric)
    _print(find_records(load_session().workspace.ledger.runs, limit=limit, **filters), filters, json)


def _print(found: Any, filters: dict[str, Any], json: bool) -> None:
    columns = {
        "run": lambda r: output.shorten_id(r.id),
        "pipeline": lambda r: r.pipeline,
        "state": lambda r: r.state,
        "started": lambda r: r.started,
        "seconds": lambda r: r.seconds,
        "by": lambda r: r.started_by.trigger or r.started_by.by,
        "metrics": lambda r: "  ".join(f"{k}={v:.4f}" for k, v in list(r.metrics.items())[:2]),
    }
    output.print_records(
        found, columns, json=json, nothing=describe_empty(filters, "no runs yet: `tidemill run training`")
    )
