"""`triggers` and `jobs`: list and pause triggers, fire pipelines, and list and cancel jobs."""

from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.cli.decisions import Reason
from tidemill.cli.pauses import Until, pause_object, resume_object
from tidemill.cli.session import (
    EnvironmentFilterOption,
    EnvironmentOption,
    FilterOption,
    Id,
    Json,
    Limit,
    describe_empty,
    load_session,
    select_filters,
)
from tidemill.errors import InputError, NotFound

if TYPE_CHECKING:
    from tidemill.flow.session import Session

triggers = typer.Typer(no_args_is_help=True, help="Triggers, which start pipelines.")
jobs = typer.Typer(no_args_is_help=True, help="Jobs: pipelines that triggers started or will start.")
_MAX_JOBS = 200
TriggerArgument = Annotated[str, typer.Argument(help="A trigger in tidemill.toml.")]


@triggers.command("list")
def list_triggers(env: EnvironmentOption = "production", json: Json = False) -> None:
    """List the triggers, when each fired last, and whether a daemon is running."""
    from tidemill.evidence.daemon_status import read_daemon_status
    from tidemill.registry.pauses import find_pause, format_pause

    session = load_session(env)
    triggers_in_policy = session.project.policy.triggers
    books, now = session.workspace.ledger, session.clock.now()

    def find_last_firing(name: str) -> str:
        recent = books.jobs.find(trigger=name, environment=env, newest=True, limit=_MAX_JOBS)
        fired = next((job for job in recent if job.state != "dropped"), None)
        if fired is None:
            return "never" if len(recent) < _MAX_JOBS else "not recently"
        return f"{output.format_cell(fired.created)} ({fired.state})"

    def find_drop_reason(name: str) -> str:
        recent = books.jobs.find(trigger=name, environment=env, newest=True, limit=1)
        return recent[0].error if recent and recent[0].state == "dropped" else ""

    def describe_pause(name: str) -> str:
        entry = find_pause(books, "trigger", name, environment=env, now=now)
        return format_pause(entry) if entry else ""

    columns = {
        "trigger": lambda t: t.name,
        "on": lambda t: f"{t.cron} {t.zone if t.zone != 'UTC' else ''}" if t.cron else f"{t.on} {t.where or ''}",
        "starts": lambda t: t.pipeline,
        "cooldown": lambda t: t.cooldown,
        "last fired": lambda t: find_last_firing(t.name),
        "blocked by": lambda t: describe_pause(t.name) or find_drop_reason(t.name),
    }
    output.print_records(triggers_in_policy, columns, json=json, nothing="tidemill.toml has no [[triggers]]")
    status = read_daemon_status(books, env, now)
    output.err.print(str(status) if status else "no daemon has run yet: start it with `tidemill up`")


@triggers.command("pause")
def pause(
    name: TriggerArgument,
    until: Until = "",
    reason: Reason = "",
    env: EnvironmentOption = "production",
    json: Json = False,
) -> None:
    """Pause a trigger. Events that occur only once, such as new data, wait; other events are dropped."""
    session = load_session(env, create=True)
    _require_trigger(session, name)
    pause_object(session, "trigger", name, until, reason, json)


@triggers.command("resume")
def resume(
    name: TriggerArgument, reason: Reason = "", env: EnvironmentOption = "production", json: Json = False
) -> None:
    """Resume a paused trigger."""
    session = load_session(env)
    _require_trigger(session, name)
    resume_object(session, "trigger", name, reason, json)


@triggers.command("fire")
def fire(
    pipeline: Annotated[str, typer.Argument(help="A pipeline in pipeline.py.")],
    model: Annotated[str, typer.Option(help="The model to run it for. Default: the only model of the project.")] = "",
    env: EnvironmentOption = "production",
    json: Json = False,
) -> None:
    """Create a job that runs a pipeline now; the daemon runs it."""
    from tidemill.daemon.triggers import Triggers
    from tidemill.evidence.daemon_status import read_daemon_status

    session = load_session(env, create=True)
    session.pipeline(pipeline)
    chosen = session.project.model(model).name if model or session.project.policy.models else ""
    daemon_triggers = Triggers(session.project.policy, session.workspace.ledger, session.clock, env)
    job = daemon_triggers.create_manual_job(pipeline, chosen, {}, session.clock.mint())
    if json:
        output.print_json(job)
    else:
        status = read_daemon_status(session.workspace.ledger, env, session.clock.now())
        cure = "" if status and status.state == "watching" else ": `tidemill up`"
        output.out.print(f"job {output.shorten_id(job.id)} waits for the daemon{cure}")


@triggers.command("jobs")
@jobs.command("list")
def list_jobs(
    trigger: FilterOption = "",
    state: FilterOption = "",
    model: FilterOption = "",
    env: EnvironmentFilterOption = "",
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """List the newest jobs with their states and runs."""
    filters = select_filters(trigger=trigger, state=state, model=model, environment=env)
    job_records = load_session().workspace.ledger.jobs.find(newest=True, limit=limit, **filters)
    columns = {
        "job": lambda j: output.shorten_id(j.id),
        "trigger": lambda j: j.trigger,
        "pipeline": lambda j: j.pipeline,
        "state": lambda j: j.state,
        "created": lambda j: j.created,
        "run": lambda j: output.shorten_id(j.run),
        "error": lambda j: j.error,
    }
    output.print_records(job_records, columns, json=json, nothing=describe_empty(filters, "no jobs yet"))


@jobs.command("show")
def show_job(job: Id, json: Json = False) -> None:
    """Show a job: its cause, its run, and the reason if it was dropped."""
    output.print_record(load_session().workspace.ledger.jobs.get(job), json=json)


@jobs.command("cancel")
def cancel_job(job: Id, json: Json = False) -> None:
    """Cancel a waiting or running job; the run of a running job can be resumed."""
    from msgspec.structs import replace

    from tidemill.core.trigger import Job

    books = load_session().workspace.ledger

    def mark_cancelled(now: Job) -> Job:
        if now.state not in ("waiting", "running"):
            raise InputError(f"job {now.id} cannot be cancelled: it is {now.state}", "choose a waiting or running job")
        return replace(now, state="cancelled", error="cancelled by a person") if now.state == "waiting" else now

    cancelled = books.jobs.change(job, mark_cancelled)
    if cancelled.state == "running":
        from tidemill.cli.runs import cancel

        try:
            cancel(cancelled.run, json=json)
        except NotFound:
            raise InputError(f"the run of job {cancelled.id} is just starting", "try again in a second") from None
        return
    if json:
        output.print_json(cancelled)
    else:
        output.out.print(f"job {output.shorten_id(cancelled.id)} is cancelled")


def _require_trigger(session: "Session", name: str) -> None:
    known = [trigger.name for trigger in session.project.policy.triggers]
    if name not in known:
        raise NotFound(f"tidemill.toml has no trigger {name!r}", f"it has: {', '.join(known) or 'none'}")
