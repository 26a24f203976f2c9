"""`events`: lists events."""

import typer

from tidemill.cli import output
from tidemill.cli.session import (
    EnvironmentFilterOption,
    FilterOption,
    Id,
    Json,
    Limit,
    describe_empty,
    load_session,
    select_filters,
)

events = typer.Typer(no_args_is_help=True, help="Events, such as new data, verdicts and failed runs.")


@events.command("list")
def list_events(
    kind: FilterOption = "",
    subject: FilterOption = "",
    env: EnvironmentFilterOption = "",
    limit: Limit = 20,
    json: Json = False,
) -> None:
    """List the newest events."""
    filters = select_filters(kind=kind, subject=subject, environment=env)
    records = load_session().workspace.ledger.events.find(newest=True, limit=limit, **filters)
    columns = {
        "event": lambda e: output.shorten_id(e.id),
        "time": lambda e: e.time,
        "kind": lambda e: e.kind,
        "subject": lambda e: e.subject,
        "payload": lambda e: str(e.payload)[:90],
    }
    output.print_records(records, columns, json=json, nothing=describe_empty(filters, "no events yet"))


@events.command("show")
def show_event(event: Id, json: Json = False) -> None:
    """Show an event."""
    output.print_record(load_session().workspace.ledger.events.get(event), json=json)
