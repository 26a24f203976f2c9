"""Decisions of people go to the audit."""

from typing import TYPE_CHECKING

from tidemill.cli.session import user

if TYPE_CHECKING:
    from tidemill.flow.session import Session


def record_decision(session: "Session", action: str, subject: str, reason: str, env: str) -> None:
    """Add the decision of a person to the audit."""
    from tidemill.core.audit import AuditEntry

    books = session.workspace.ledger
    with books.transaction(durable=True):
        books.audit.add(
            AuditEntry(
                id=session.clock.mint(),
                actor=user(),
                action=action,
                subject=subject,
                time=session.clock.now(),
                reason=reason,
                environment=env,
            )
        )
