"""Triggers and their jobs: what starts pipelines, what became of it, and what people stop for a while."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tidemill.cli import output
from tidemill.cli.models import models
from tidemill.cli.session import Environment, Id, Json, Limit, Only, Within, given, nothing, session_here, user
from tidemill.errors import InputError, NotFound

if TYPE_CHECKING:
    from tidemill.flow.session import Session
    from tidemill.registry.pauses import Pausable

triggers = typer.Typer(no_args_is_help=True, help="What starts pipelines.")
jobs = typer.Typer(no_args_is_help=True, help="What triggers made of each cause.")
_LOOK_BACK = 200
Reason = Annotated[str, typer.Option(help="Why; it is kept.")]
Until = Annotated[str, typer.Option(help="Until then (UTC, or a length of time such as 2d); for ever, if not given.")]
Name = Annotated[str, typer.Argument(help="A trigger of tidemill.toml.")]
Model = Annotated[str, typer.Argument(help="A model; the only one, if not given.")]


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
    _pause(session, "trigger", name, until, reason, json)


@triggers.command("resume")
def resume(name: Name, reason: Reason = "", env: Environment = "production", json: Json = False) -> None:
    """Let a paused trigger fire again."""
    session = session_here(env)
    _known(session, name)
    _resume(session, "trigger", name, reason, json)


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
    job = by.by_hand(pipeline, chosen, {}, session.clock.mint())
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


@models.command("freeze")
def freeze(
    name: Model = "",
    until: Until = "",
    reason: Reason = "",
    env: Environment = "production",
    json: Json = False,
) -> None:
    """Keep what answers for a model as it is: only people may change its route."""
    session = session_here(env)
    _pause(session, "model", session.project.model(name).name, until, reason, json)


@models.command("thaw")
def thaw(
    name: Model = "",
    reason: Reason = "",
    env: Environment = "production",
    json: Json = False,
) -> None:
    """Let the policy change a frozen model's route again."""
    session = session_here(env)
    _resume(session, "model", session.project.model(name).name, reason, json)


def _known(session: "Session", name: str) -> None:
    known = [trigger.name for trigger in session.project.policy.triggers]
    if name not in known:
        raise NotFound(f"tidemill.toml has no trigger {name!r}", f"it has: {', '.join(known) or 'none'}")


def _moment(until: str, now: datetime) -> datetime | None:
    from tidemill.clock import span
    from tidemill.errors import ConfigurationError

    if not until:
        return None
    try:
        moment = datetime.fromisoformat(until)
    except ValueError:
        try:
            return now + span(until)
        except ConfigurationError:
            raise InputError(f"--until {until!r} is no time", "write 2026-12-24, 2026-12-24T18:00 or 2d") from None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    if moment <= now:
        raise InputError(f"--until {until} is over already", "give a time that is still to come")
    return moment


def _pause(session: "Session", kind: "Pausable", name: str, until: str, reason: str, json: bool) -> None:
    from tidemill.registry.pauses import pause as pause_in
    from tidemill.registry.pauses import pause_text

    moment = _moment(until, session.clock.now())
    entry = pause_in(session.workspace.ledger, session.clock, kind, name, **_by(session, reason), until=moment)
    output.as_json(entry) if json else output.out.print(f"{kind} {name}: {pause_text(entry)}")


def _resume(session: "Session", kind: "Pausable", name: str, reason: str, json: bool) -> None:
    from tidemill.registry.pauses import find_pause, pause_text
    from tidemill.registry.pauses import resume as resume_in

    books, env = session.workspace.ledger, session.workspace.environment
    if find_pause(books, kind, name, environment=env, now=session.clock.now()) is None:
        state = "paused" if kind == "trigger" else "frozen"
        raise InputError(f"{kind} {name!r} is not {state} in {env}", "there is nothing to do")
    entry = resume_in(books, session.clock, kind, name, **_by(session, reason))
    output.as_json(entry) if json else output.out.print(f"{kind} {name}: {pause_text(entry)}")


def _by(session: "Session", reason: str) -> dict[str, Any]:
    return {"environment": session.workspace.environment, "actor": user(), "reason": reason}
