"""The decisions of people: they change routes, and are recorded in the audit log."""

from typing import TYPE_CHECKING

from tidemill.cli.session import current_user

if TYPE_CHECKING:
    from tidemill.core.model import Model
    from tidemill.flow.session import Session
    from tidemill.registry.rollout import Deployer


def record_decision(session: "Session", action: str, subject: str, reason: str, env: str) -> None:
    """Add a decision to the audit log, with the current user as its author."""
    from tidemill.core.audit import AuditEntry

    books = session.workspace.ledger
    with books.transaction(durable=True):
        books.audit.add(
            AuditEntry(
                id=session.clock.mint(),
                actor=current_user(),
                action=action,
                subject=subject,
                time=session.clock.now(),
                reason=reason,
                environment=env,
            )
        )


def require_predictions(model: "Model") -> None:
    """Raise an error of Tidemill if a model cannot predict its sample rows."""
    from tidemill.models.inputs import load_samples
    from tidemill.models.load import load

    if (rows := load_samples(model)).height:
        load(model).predict(rows)


def create_deployer(session: "Session", env: str) -> "Deployer":
    """Return what changes the routes of an environment."""
    from tidemill.registry.rollout import Deployer

    return Deployer(session.workspace.ledger, session.workspace.board, session.clock, env)
