"""`proposals`: what programs propose, and the decision of a person to decline it."""

from typing import Annotated

import typer

from tidemill.access.roles import OPERATE
from tidemill.cli import output
from tidemill.cli.decisions import Reason, export_audit_head, record_decision
from tidemill.cli.session import EnvironmentOption, Json, load_session, require_actor
from tidemill.errors import InputError

proposals = typer.Typer(no_args_is_help=True, help="What programs propose: a run or a promotion. A person decides.")


@proposals.command("list")
def list_proposals(env: EnvironmentOption = "production", json: Json = False) -> None:
    """List the open proposals, each with the command that accepts it."""
    from tidemill.ledger.proposals import list_open_proposals

    session = load_session(env)
    records = list_open_proposals(session.workspace.ledger, env, session.clock.now())
    columns = {
        "proposal": lambda p: output.shorten_id(p.id),
        "time": lambda p: p.time,
        "by": lambda p: p.by,
        "reason": lambda p: p.reason,
        "to accept it": lambda p: p.command,
    }
    output.print_records(records, columns, json=json, nothing="no proposal is open")


@proposals.command("decline")
def decline(
    proposal: Annotated[str, typer.Argument(metavar="ID", help="The id, or its beginning.")],
    reason: Reason = "",
    env: EnvironmentOption = "production",
) -> None:
    """Decline a proposal; it is no longer listed."""
    from tidemill.ledger.proposals import DECLINED, PROPOSAL, name_decision

    session = load_session(env)
    actor = require_actor(session, OPERATE)
    books = session.workspace.ledger
    event = books.events.get(proposal)
    if event.kind != PROPOSAL:
        raise InputError(f"{event.id} is no proposal but an event of the kind {event.kind}", "tidemill proposals list")
    with books.transaction(durable=True):
        record_decision(session, DECLINED, name_decision(event.id), reason, actor)
    export_audit_head(session)
    output.out.print(f"the proposal about {event.subject} is declined")
