"""`runs`: lists, searches, resumes and cancels runs."""

import signal
from contextlib import suppress
from typing import Annotated, Any

import typer

from tidemill.cli import output
from tidemill.cli.run import VerboseOption, create_progress, describe_user_cause, print_result, stop_on_signal
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
    engine: Annotated[str, typer.Option(help="inline, processes or container. Default: the same as before.")] = "",
    verbose: VerboseOption = False,
    json: Json = False,
) -> int:
    """Resume a run that failed, was stopped, interrupted or cancelled, with the current code."""
    from tidemill.flow.engine import resume as resume_run

    run = load_session().workspace.ledger.runs.get(run_id)
    session = load_session(run.environment)
    progress = create_progress(session, quiet=json, verbose=verbose)
    with stop_on_signal(progress):
        finished, failed = resume_run(
            session, run.id, cause=describe_user_cause(session), progress=progress.report, engine=engine
        )
    return print_result(session, finished, failed, json)


@runs.command("cancel")
def cancel(
    run_id: Annotated[str, typer.Argument(metavar="RUN", help="The id of a run, or its beginning.")], json: Json = False
) -> None:
    """Cancel a run; it can be resumed."""
    import os

    from tidemill.flow.engine import cancel as cancel_run

    cancelled, process_id = cancel_run(load_session(), run_id)
    if process_id is not None and process_id != os.getpid():
        with suppress(ProcessLookupError, PermissionError):
            os.kill(process_id, signal.SIGTERM)
    if json:
        output.print_json(cancelled)
    else:
        note = "" if process_id is not None else f"; it stops after its current step on {cancelled.host}"
        output.out.print(f"run {output.shorten_id(cancelled.id)} is cancelled{note}")


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
    text: Annotated[str, typer.Argument(help="Words, or the beginnings of words, in the text of the run.")] = "",
    tag: Annotated[str, typer.Option(help="A tag, as NAME=VALUE.")] = "",
    metric: Annotated[str, typer.Option(help="A condition on a metric, such as test_log_loss<0.5.")] = "",
    limit: Limit = 50,
    json: Json = False,
) -> None:
    """Find runs by text, tag and metric."""
    from tidemill.evidence.search import search as find_records

    filters = select_filters(text=text, tag=tag, metric=metric)
    _print(find_records(load_session().workspace.ledger.runs, limit=limit, **filters), filters, json)


def _print(records: Any, filters: dict[str, Any], json: bool) -> None:
    columns = {
        "run": lambda run: output.shorten_id(run.id),
        "pipeline": lambda run: run.pipeline,
        "state": lambda run: run.state,
        "started": lambda run: run.started,
        "seconds": lambda run: run.seconds,
        "by": lambda run: run.started_by.trigger or run.started_by.by,
        "metrics": lambda run: "  ".join(f"{name}={value:.4f}" for name, value in list(run.metrics.items())[:2]),
    }
    output.print_records(
        records, columns, json=json, nothing=describe_empty(filters, "no runs yet: `tidemill run training`")
    )
