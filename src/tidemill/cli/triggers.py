"""Triggers and their jobs: what starts pipelines, what became of it, and what people stop for a while."""

from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.cli.pauses import Reason, Until, pause_object, resume_object
from tidemill.cli.session import Environment, Id, Json, Limit, Only, Within, given, nothing, session_here
from tidemill.errors import InputError, NotFound

if TYPE_CHECKING:
    from tidemill.flow.session import Session

triggers = typer.Typer(no_args_is_help=True, help="What starts pipelines.")
jobs = typer.Typer(no_args_is_help=True, help="What triggers made of each cause.")
_LOOK_BACK = 200
Name = Annotated[str, typer.Argument(help="A trigger of tidemill.toml.")]


@triggers.command("list")
def list_triggers(env: Environment = "production", json: Json = False) -> None:
    """The triggers of tidemill.toml, when each last fired, and whether a daemon watches."""
    from tidemill.evidence.daemon_status import read_daemon_status
    from tidemill.registry.pauses import find_pause, pause_text

    session = session_here(env)
    found = session.project.policy.triggers
    books, now = session.workspace.ledger, session.clock.now()

    def last(name: str) -> str:
        decided = books.jobs.find(trigger=name, environment=env, newest=True, limit=_LOOK_BACK)
        fired = next((job for job in decided if job.state != "dropped"), None)
        if fired is None:
            return "never" if len(decided) < _LOOK_BACK else "not lately"
        return f"{output.cell(fired.created)} ({fired.state})"

    def held_back(name: str) -> str:
        decided = books.jobs.find(trigger=name, environment=env, newest=True, limit=1)
        return decided[0].error if decided and decided[0].state == "dropped" else ""

    def paused(name: str) -> str:
        entry = find_pause(books, "trigger", name, environment=env, now=now)
        return pause_text(entry) if entry else ""

    columns = {
        "trigger": lambda t: t.name,
        "on": lambda t: f"{t.cron} {t.zone if t.zone != 'UTC' else ''}" if t.cron else f"{t.on} {t.where or ''}",
        "starts": lambda t: t.pipeline,
        "cooldown": lambda t: t.cooldown,
        "last fired": lambda t: last(t.name),
        "held back": lambda t: paused(t.name) or held_back(t.name),
    }
    output.records(found, columns, json=json, nothing="tidemill.toml has no [[triggers]]")
    heard = read_daemon_status(books, env, now)
    output.err.print(str(heard) if heard else "no daemon has ever watched: `tidemill up`")


@triggers.command("pause")
def pause(
    name: Name, until: Until = "", reason: Reason = "", env: Environment = "production", json: Json = False
) -> None:
    """Keep a trigger from firing; what comes once, as new data does, waits, and other causes are dropped."""
    session = session_here(env)
    _known(session, name)
    pause_object(session, "trigger", name, until, reason, json)


@triggers.command("resume")
def resume(name: Name, reason: Reason = "", env: Environment = "production", json: Json = False) -> None:
    """Let a paused trigger fire again."""
    session = session_here(env)
    _known(session, name)
    resume_object(session, "trigger", name, reason, json)


@triggers.command("fire")
def fire(
    pipeline: Annotated[str, typer.Argument(help="A pipeline of pipeline.py.")],
    model: Annotated[str, typer.Option(help="The model that it is for; the only one, if not given.")] = "",
    env: Environment = "production",
    json: Json = False,
) -> None:
    """Ask the daemon to run a pipeline now."""
    from tidemill.daemon.triggers import Triggers
    from tidemill.evidence.daemon_status import read_daemon_status

    session = session_here(env)
    session.project.code.pipeline(pipeline)
    chosen = session.project.model(model).name if model or session.project.policy.models else ""
    by = Triggers(session.project.policy, session.workspace.ledger, session.clock, env)
    job = by.create_manual_job(pipeline, chosen, {}, session.clock.mint())
    if json:
        output.as_json(job)
    else:
        heard = read_daemon_status(session.workspace.ledger, env, session.clock.now())
        cure = "" if heard and heard.state == "watching" else ": `tidemill up`"
        output.out.print(f"job {output.short(job.id)} waits for the daemon{cure}")


@triggers.command("jobs")
@jobs.command("list")
def list_jobs(
    trigger: Only = "", state: Only = "", model: Only = "", env: Within = "", limit: Limit = 20, json: Json = False
) -> None:
    """The newest firings, and what became of them."""
    asked = given(trigger=trigger, state=state, model=model, environment=env)
    found = session_here().workspace.ledger.jobs.find(newest=True, limit=limit, **asked)
    columns = {
        "job": lambda j: output.short(j.id),
        "trigger": lambda j: j.trigger,
        "pipeline": lambda j: j.pipeline,
        "state": lambda j: j.state,
        "created": lambda j: j.created,
        "run": lambda j: output.short(j.run),
        "error": lambda j: j.error,
    }
    output.records(found, columns, json=json, nothing=nothing(asked, "nothing was fired yet"))


@jobs.command("show")
def show_job(job: Id, json: Json = False) -> None:
    """One job: its cause, its run, and why it was dropped, if it was."""
    output.record(session_here().workspace.ledger.jobs.get(job), json=json)


@jobs.command("cancel")
def cancel_job(job: Id, json: Json = False) -> None:
    """Let a job that waits never run; one that runs is ended, and its run can be resumed."""
    from msgspec.structs import replace

    from tidemill.core.trigger import Job

    books = session_here().workspace.ledger

    def cancelled(now: Job) -> Job:
        if now.state not in ("waiting", "running"):
            raise InputError(f"job {now.id} is over: {now.state}", "only one that waits or runs can be cancelled")
        return replace(now, state="cancelled", error="cancelled by a person") if now.state == "waiting" else now

    found = books.jobs.change(job, cancelled)
    if found.state == "running":
        from tidemill.cli.runs import cancel

        try:
            cancel(found.run, json=json)
        except NotFound:
            raise InputError(f"the run of job {found.id} is just beginning", "try again in a moment") from None
        return
    if json:
        output.as_json(found)
    else:
        output.out.print(f"job {output.short(found.id)} is cancelled")


def _known(session: "Session", name: str) -> None:
    known = [trigger.name for trigger in session.project.policy.triggers]
    if name not in known:
        raise NotFound(f"tidemill.toml has no trigger {name!r}", f"it has: {', '.join(known) or 'none'}")
