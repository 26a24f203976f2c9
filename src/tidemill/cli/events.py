"""`events`: what happened."""

import typer

from tidemill.cli import output
from tidemill.cli.session import Id, Json, Limit, Only, Within, given, nothing, session_here

events = typer.Typer(no_args_is_help=True, help="What happened.")


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
