"""Events: how one is written down."""

from datetime import datetime
from typing import Any

from tidemill.clock import Clock
from tidemill.core.event import Event
from tidemill.core.resources import Books


def tell(
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
    """Write down that something happened, now if no time is given; without a `key`, it is like no other.

    Raises
    ------
    Conflict
        where an event of that key was written before.
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
