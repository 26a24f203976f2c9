"""Entries of the audit log, and a function of processes that add them at the same time."""

from datetime import UTC, datetime, timedelta
from typing import Any

from tidemill.clock import uuid7
from tidemill.core.audit import AuditEntry
from tidemill.ledger.ledger import Ledger

_NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


def entry(number: int, actor: str = "person", detail: dict[str, Any] | None = None) -> AuditEntry:
    """Return an entry; a higher number has a later time."""
    time = _NOON + timedelta(minutes=number)
    return AuditEntry(
        id=uuid7(time, number),
        actor=actor,
        action="approved",
        subject=f"flights/{number}",
        time=time,
        reason="checked it",
        environment="production",
        detail=detail or {},
    )


def add_entries(number: int, url: str) -> int:
    """Add 25 entries, and return how many were added."""
    ledger = Ledger(url)
    for index in range(25):
        with ledger.transaction(durable=True):
            ledger.audit.add(entry(number * 1_000 + index, f"person {number}"))
    return 25
