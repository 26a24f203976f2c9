"""Records the decisions of people in the audit log."""

from typing import TYPE_CHECKING

from tidemill.cli.session import current_user

if TYPE_CHECKING:
    from tidemill.flow.session import Session


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
