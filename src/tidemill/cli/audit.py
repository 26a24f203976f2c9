"""`audit`: the decisions of people."""

import typer

from tidemill.cli import output
from tidemill.cli.session import Json, Limit, session_here

audit = typer.Typer(no_args_is_help=True, help="Decisions that people took.")


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
