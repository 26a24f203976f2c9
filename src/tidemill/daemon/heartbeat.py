"""Heartbeat: a daemon says in the ledger that it watches, and up to when it has looked at causes; others hear it."""

from datetime import datetime
from typing import Literal

from msgspec import to_builtins
from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.event import DaemonPayload
from tidemill.core.resources import Books
from tidemill.evidence.daemon_status import find_last_beat
from tidemill.ledger.events import record_event

_EVERY = 5.0


class Heartbeat:
    """The event of kind `daemon` of one daemon: `known_at` is its latest beat, and `looked` how far it has come."""

    def __init__(self, books: Books, clock: Clock, environment: str, host: str) -> None:
        self._books = books
        self._clock = clock
        self._beaten = clock.monotonic()
        self._id = record_event(
            books, clock, "daemon", host, environment=environment, payload=to_builtins(DaemonPayload(state="watching"))
        ).id

    def beat(self, looked: datetime) -> None:
        """Say that the daemon is well, every few seconds."""
        if self._clock.monotonic() >= self._beaten + _EVERY:
            self._say("watching", looked)

    def end(self, looked: datetime) -> None:
        """Say that the daemon ends as it was told to."""
        self._say("ended", looked)

    def _say(self, state: Literal["watching", "ended"], looked: datetime) -> None:
        now = self._clock.now()
        payload = to_builtins(DaemonPayload(state=state, looked=looked))
        self._books.events.change(self._id, lambda event: replace(event, known_at=now, payload=payload))
        self._beaten = self._clock.monotonic()


def looked(books: Books, environment: str) -> datetime | None:
    """Up to when the last daemon has looked at causes."""
    event = find_last_beat(books, environment)
    if event is None:
        return None
    return event.read(DaemonPayload).looked or event.time
