"""The decisions of people: they change routes, and are recorded in the audit log."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from tidemill.cli import output
from tidemill.cli.session import require_actor

if TYPE_CHECKING:
    from collections.abc import Set

    from tidemill.access.actors import Actor
    from tidemill.core.token import Role
    from tidemill.flow.session import Session
    from tidemill.registry.rollout import Deployer


def _require(reason: str) -> str:
    from tidemill.ledger.decisions import require_reason

    return require_reason(reason)


Reason = Annotated[str, typer.Option(help="Why; the audit log keeps it. Required.", callback=_require)]
"""The reason of a decision: without one, the command stops before it reads or changes anything."""


@contextmanager
def deciding(session: "Session", allowed: "Set[Role]") -> "Iterator[tuple[Deployer, Actor]]":
    """Open what changes routes in the name of the actor of this command; afterwards, export the head of the audit log.

    Raises
    ------
    AccessDenied
        if the token in TIDEMILL_TOKEN has none of the `allowed` roles.
    """
    from tidemill.registry.rollout import Deployer

    workspace = session.workspace
    actor = require_actor(session, allowed)
    yield Deployer(workspace.ledger, workspace.board, session.clock, workspace.environment, actor.detail), actor
    export_audit_head(session)


def record_decision(
    session: "Session", action: str, subject: str, reason: str, actor: "Actor", environment: str = ""
) -> None:
    """Add a decision of an actor to the audit log, inside the open transaction if there is one.

    The default of `environment` is that of the session.
    """
    from tidemill.ledger.decisions import Decision
    from tidemill.ledger.decisions import record_decision as record

    decision = Decision(action=action, subject=subject, reason=reason, detail=actor.detail)
    workspace = session.workspace
    environment = environment or workspace.environment
    record(workspace.ledger, session.clock, decision, actor=actor.name, environment=environment)


def export_audit_head(session: "Session") -> None:
    """Sign and export the head of the audit log, if TIDEMILL_AUDIT_KEY and TIDEMILL_AUDIT_HEADS are set."""
    if not (os.environ.get("TIDEMILL_AUDIT_KEY") or os.environ.get("TIDEMILL_AUDIT_HEADS")):
        return
    from tidemill.evidence.heads import export_from_settings

    workspace = session.workspace
    export_from_settings(
        workspace.ledger,
        session.project.name,
        session.clock,
        workspace.root,
        lambda text: output.err.print(f"warning: {text}", style="yellow"),
    )
