"""The nouns that are listed and shown: checks, events, routes, audit."""

from typing import Annotated

import typer

from tidemill.cli import output
from tidemill.cli.opening import Environment, Id, Json, Limit, Only, Within, given, nothing, session_here
from tidemill.errors import NotFound

checks = typer.Typer(no_args_is_help=True, help="Verdicts: what was judged, and what followed.")
events = typer.Typer(no_args_is_help=True, help="What happened.")
routes = typer.Typer(no_args_is_help=True, help="Which releases answer.")
audit = typer.Typer(no_args_is_help=True, help="Decisions that people took.")


@checks.command("list")
def list_checks(
    check: Only = "",
    outcome: Only = "",
    action: Only = "",
    run: Only = "",
    env: Within = "",
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """The newest verdicts."""
    asked = given(check=check, outcome=outcome, action=action, run=run, environment=env)
    found = session_here().workspace.ledger.verdicts.find(newest=True, limit=limit, **asked)
    columns = {
        "verdict": lambda v: output.short(v.id),
        "time": lambda v: v.time,
        "check": lambda v: v.check,
        "subject": lambda v: v.subject,
        "outcome": lambda v: v.outcome,
        "action": lambda v: v.action,
        "reason": lambda v: v.reason,
    }
    output.records(found, columns, json=json, nothing=nothing(asked, "nothing was judged yet"))


@checks.command("kinds")
def list_kinds(stage: Only = "", json: Json = False) -> None:
    """The checks there are: what each compares, and what it needs."""
    from tidemill.checks.registry import CHECKS

    asked = given(stage=stage)
    columns = {
        "check": lambda c: c.name,
        "part of": lambda c: c.part_of,
        "stage": lambda c: c.stage,
        "subject": lambda c: c.subject,
        "needs": lambda c: ", ".join(c.needs),
        "compares": lambda c: c.about,
    }
    found = [one for one in CHECKS if stage in ("", one.stage)]
    output.records(found, columns, json=json, nothing=nothing(asked, "there are no checks"))


@checks.command("show")
def show_check(verdict: Id, json: Json = False) -> None:
    """One verdict with its evidence."""
    output.record(session_here().workspace.ledger.verdicts.get(verdict), json=json)


@events.command("list")
def list_events(kind: Only = "", subject: Only = "", env: Within = "", limit: Limit = 20, json: Json = False) -> None:
    """The newest events."""
    asked = given(kind=kind, subject=subject, environment=env)
    found = session_here().workspace.ledger.events.find(newest=True, limit=limit, **asked)
    columns = {
        "event": lambda e: output.short(e.id),
        "time": lambda e: e.time,
        "kind": lambda e: e.kind,
        "subject": lambda e: e.subject,
        "payload": lambda e: str(e.payload)[:90],
    }
    output.records(found, columns, json=json, nothing=nothing(asked, "nothing happened yet"))


@events.command("show")
def show_event(event: Id, json: Json = False) -> None:
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
def show_route(
    model: Annotated[str, typer.Argument(help="A model.")], env: Environment = "production", json: Json = False
) -> None:
    """The route of a model."""
    found = session_here(env).workspace.board.routes()
    if model not in found:
        raise NotFound(f"model {model!r} has no route", f"routed are: {', '.join(found) or 'none'}")
    output.record(found[model], json=json)


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
