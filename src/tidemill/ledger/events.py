"""Events: a function that writes one to the ledger."""

from datetime import datetime
from typing import Any

from tidemill.clock import Clock
from tidemill.core.event import Event
from tidemill.core.resources import Books


def record_event(
    books: Books,
    clock: Clock,
    kind: str,
    subject: str,
    *,
    environment: str,
    payload: dict[str, Any],
    key: str = "",
    cause: str = "",
    time: datetime | None = None,
) -> Event:
    """Write an event to the ledger.

    The default of `time` is now. The default of `key` is unique, so that the event is never a duplicate.

    Raises
    ------
    Conflict
        if an event with that key exists.
    """
    identifier, now = clock.mint(), clock.now()
    return books.events.add(
        Event(
            id=identifier,
            kind=kind,
            environment=environment,
            subject=subject,
            time=time or now,
            known_at=now,
            dedupe_key=key or f"{kind}/{identifier}",
            cause=cause,
            payload=payload,
        )
    )
