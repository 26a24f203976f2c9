"""Decisions: what a person did to which object, as an entry of the audit log."""

from typing import Any

from msgspec import Struct

from tidemill.clock import Clock
from tidemill.core.audit import AuditEntry
from tidemill.core.resources import Books
from tidemill.errors import InputError


class Decision(Struct, frozen=True, kw_only=True):
    """An action of a person on an object, with the reason; `detail` has further facts, such as the person's token."""

    action: str
    subject: str
    reason: str = ""
    detail: dict[str, Any] = {}


def require_reason(reason: str) -> str:
    """Return the reason of a decision without blanks around it; raise `InputError` if it has no word."""
    if not any(character.isalnum() for character in reason):
        raise InputError("the decision has no reason", 'write why, for the audit log: --reason "it is better"')
    return reason.strip()


def record_decision(books: Books, clock: Clock, decision: Decision, *, actor: str, environment: str) -> AuditEntry:
    """Write a decision to the audit log, inside the open transaction if there is one."""
    with books.transaction(durable=True):
        return books.audit.add(
            AuditEntry(
                id=clock.mint(),
                actor=actor,
                action=decision.action,
                subject=decision.subject,
                time=clock.now(),
                reason=decision.reason,
                environment=environment,
                detail=decision.detail,
            )
        )
