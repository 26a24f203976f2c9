"""Pauses: triggers that a person paused and models that a person froze, as entries of the audit log."""

from datetime import datetime
from typing import Any, Literal

from tidemill.clock import Clock
from tidemill.core.audit import AuditEntry
from tidemill.core.resources import Books, BooksReader

Pausable = Literal["trigger", "model", "environment"]
_VERBS = {"trigger": ("paused", "resumed"), "model": ("froze", "thawed"), "environment": ("paused", "resumed")}


def pause(
    books: Books,
    clock: Clock,
    kind: Pausable,
    name: str,
    *,
    environment: str,
    actor: str,
    reason: str,
    until: datetime | None = None,
) -> AuditEntry:
    """Pause a trigger, or freeze a model's route for the policy, until a time or until resumed."""
    detail = {"until": until.isoformat()} if until else {}
    return _write(books, clock, _VERBS[kind][0], f"{kind}/{name}", environment, actor, reason, detail)


def resume(
    books: Books, clock: Clock, kind: Pausable, name: str, *, environment: str, actor: str, reason: str
) -> AuditEntry:
    """End a pause."""
    return _write(books, clock, _VERBS[kind][1], f"{kind}/{name}", environment, actor, reason, {})


def find_pause(books: BooksReader, kind: Pausable, name: str, *, environment: str, now: datetime) -> AuditEntry | None:
    """Return the entry that paused a trigger or froze a model, if it is still in force; else None."""
    for entry in books.audit.find(subject=f"{kind}/{name}", newest=True):
        if entry.environment != environment or entry.action not in _VERBS[kind]:
            continue
        until = entry.detail.get("until")
        has_expired = until is not None and datetime.fromisoformat(until) <= now
        return None if entry.action == _VERBS[kind][1] or has_expired else entry
    return None


def format_pause(entry: AuditEntry) -> str:
    """Return a pause as text: the actor, the end and the reason."""
    until = f" until {entry.detail['until'][:16]}" if "until" in entry.detail else ""
    return f"{entry.action} by {entry.actor}{until}" + (f": {entry.reason}" if entry.reason else "")


def _write(
    books: Books,
    clock: Clock,
    action: str,
    subject: str,
    environment: str,
    actor: str,
    reason: str,
    detail: dict[str, Any],
) -> AuditEntry:
    entry = AuditEntry(
        id=clock.mint(),
        actor=actor,
        action=action,
        subject=subject,
        time=clock.now(),
        reason=reason,
        environment=environment,
        detail=detail,
    )
    with books.transaction(durable=True):
        return books.audit.add(entry)
