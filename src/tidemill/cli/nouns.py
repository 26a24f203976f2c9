"""The nouns that are listed and shown: checks, events, routes, triggers, features, data, audit."""

from typing import Annotated, Any

import typer

from tidemill.cli import output
from tidemill.cli.opening import Environment, Json, session_here

checks = typer.Typer(no_args_is_help=True, help="Verdicts: what was judged, and what followed.")
events = typer.Typer(no_args_is_help=True, help="What happened.")
routes = typer.Typer(no_args_is_help=True, help="Which releases answer.")
triggers = typer.Typer(no_args_is_help=True, help="What starts pipelines.")
audit = typer.Typer(no_args_is_help=True, help="Decisions that people took.")
NOUNS = {"checks": checks, "events": events, "routes": routes, "triggers": triggers, "audit": audit}
Limit = Annotated[int, typer.Option(help="At most so many.")]


def _given(**wanted: str) -> dict[str, Any]:
    return {name: value for name, value in wanted.items() if value}


@checks.command("list")
def list_checks(
    check: str = "", outcome: str = "", action: str = "", run: str = "", limit: Limit = 20, json: Json = False
) -> None:
    """The newest verdicts."""
    found = session_here().workspace.ledger.verdicts.find(
        newest=True, limit=limit, **_given(check=check, outcome=outcome, action=action, run=run)
    )
    columns = {
        "verdict": lambda v: output.short(v.id),
        "time": lambda v: v.time,
        "check": lambda v: v.check,
        "subject": lambda v: v.subject,
        "outcome": lambda v: v.outcome,
        "action": lambda v: v.action,
        "reason": lambda v: v.reason,
    }
    output.records(found, columns, json=json, nothing="nothing was judged yet")


@checks.command("show")
def show_check(verdict: str, json: Json = False) -> None:
    """One verdict with its evidence."""
    output.record(session_here().workspace.ledger.verdicts.get(verdict), json=json)


@events.command("list")
def list_events(kind: str = "", subject: str = "", limit: Limit = 20, json: Json = False) -> None:
    """The newest events."""
    found = session_here().workspace.ledger.events.find(newest=True, limit=limit, **_given(kind=kind, subject=subject))
    columns = {
        "event": lambda e: output.short(e.id),
        "time": lambda e: e.time,
        "kind": lambda e: e.kind,
        "subject": lambda e: e.subject,
        "payload": lambda e: str(e.payload)[:90],
    }
    output.records(found, columns, json=json, nothing="nothing happened yet")


@events.command("show")
def show_event(event: str, json: Json = False) -> None:
    """One event."""
    output.record(session_here().workspace.ledger.events.get(event), json=json)


@routes.command("list")
def list_routes(env: Environment = "production", json: Json = False) -> None:
    """The routes in force."""
    found = list(session_here(env).workspace.board.routes().values())
    columns = {
        "model": lambda r: r.model,
        "answering": lambda r: ", ".join(f"{a.release} ({a.role} {a.share:.0%})" for a in r.arms),
        "since": lambda r: r.since,
        "why": lambda r: r.reason,
        "by": lambda r: r.by,
    }
    output.records(found, columns, json=json, nothing="no model is routed yet: `tidemill run training`")


@routes.command("show")
def show_route(model: str, env: Environment = "production", json: Json = False) -> None:
    """The route of a model."""
    from tidemill.errors import NotFound

    found = session_here(env).workspace.board.routes()
    if model not in found:
        raise NotFound(f"model {model!r} has no route", f"routed are: {', '.join(found) or 'none'}")
    output.record(found[model], json=json)


@triggers.command("list")
def list_triggers(json: Json = False) -> None:
    """The triggers of tidemill.toml, and when each last fired."""
    session = session_here()
    found = session.project.policy.triggers
    jobs = session.workspace.ledger.jobs

    def last(name: str) -> str:
        fired = jobs.find(trigger=name, newest=True, limit=1)
        return f"{output.cell(fired[0].created)} ({fired[0].state})" if fired else "never"

    columns = {
        "trigger": lambda t: t.name,
        "on": lambda t: t.cron or f"{t.on} {t.where or ''}",
        "starts": lambda t: t.pipeline,
        "cooldown": lambda t: t.cooldown,
        "last fired": lambda t: last(t.name),
    }
    output.records(found, columns, json=json, nothing="tidemill.toml has no [[triggers]]")


@triggers.command("jobs")
def list_jobs(limit: Limit = 20, json: Json = False) -> None:
    """The newest firings, and what became of them."""
    found = session_here().workspace.ledger.jobs.find(newest=True, limit=limit)
    columns = {
        "job": lambda j: output.short(j.id),
        "trigger": lambda j: j.trigger,
        "pipeline": lambda j: j.pipeline,
        "state": lambda j: j.state,
        "created": lambda j: j.created,
        "run": lambda j: output.short(j.run),
        "error": lambda j: j.error,
    }
    output.records(found, columns, json=json, nothing="nothing was fired yet")


@triggers.command("fire")
def fire(pipeline: str, model: str = "", env: Environment = "production", json: Json = False) -> None:
    """Ask the daemon to run a pipeline now."""
    from tidemill.daemon.triggers import Triggers

    session = session_here(env)
    session.project.code.pipeline(pipeline)
    chosen = session.project.model(model).name
    by = Triggers(session.project.policy, session.workspace.ledger, session.clock, env)
    job = by.by_hand(pipeline, chosen, {}, session.clock.mint())
    if json:
        output.as_json(job)
    else:
        output.out.print(f"job {output.short(job.id)} waits for the daemon: `tidemill up`")


@audit.command("list")
def list_audit(limit: Limit = 20, json: Json = False) -> None:
    """The newest decisions of people."""
    found = session_here().workspace.ledger.audit.find(newest=True, limit=limit)
    columns = {
        "time": lambda a: a.time,
        "who": lambda a: a.actor,
        "did": lambda a: a.action,
        "to": lambda a: a.subject,
        "why": lambda a: a.reason,
    }
    output.records(found, columns, json=json, nothing="nobody decided anything by hand yet")
