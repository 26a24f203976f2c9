"""`audit`: lists the decisions of people."""

import typer

from tidemill.cli import output
from tidemill.cli.session import Json, Limit, load_session

audit = typer.Typer(no_args_is_help=True, help="Decisions of people.")


@audit.command("list")
def list_audit(limit: Limit = 20, json: Json = False) -> None:
    """List the newest decisions of people."""
    entries = load_session().workspace.ledger.audit.find(newest=True, limit=limit)
    columns = {
        "time": lambda a: a.time,
        "who": lambda a: a.actor,
        "action": lambda a: a.action,
        "subject": lambda a: a.subject,
        "reason": lambda a: a.reason,
    }
    output.print_records(entries, columns, json=json, nothing="no decisions of people yet")
