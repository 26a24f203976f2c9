"""Heartbeat: the daemon writes to the ledger that it is running, and up to which time it has checked for events."""

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
    """The event of kind `daemon` of one daemon: `known_at` is its latest beat, `looked` its last check for events."""

    def __init__(self, books: Books, clock: Clock, environment: str, host: str) -> None:
        self._books = books
        self._clock = clock
        self._last_beat = clock.monotonic()
        self._id = record_event(
            books, clock, "daemon", host, environment=environment, payload=to_builtins(DaemonPayload(state="watching"))
        ).id

    def beat(self, last_check: datetime) -> None:
        """Write that the daemon is running, every few seconds."""
        if self._clock.monotonic() >= self._last_beat + _EVERY:
            self._write("watching", last_check)

    def stop(self, last_check: datetime) -> None:
        """Write that the daemon stopped as requested."""
        self._write("ended", last_check)

    def _write(self, state: Literal["watching", "ended"], last_check: datetime) -> None:
        now = self._clock.now()
        payload = to_builtins(DaemonPayload(state=state, looked=last_check))
        self._books.events.change(self._id, lambda event: replace(event, known_at=now, payload=payload))
        self._last_beat = self._clock.monotonic()


def read_last_check(books: Books, environment: str) -> datetime | None:
    """Return the time up to which the last daemon has checked for events; None if there never was a daemon."""
    event = find_last_beat(books, environment)
    if event is None:
        return None
    return event.read(DaemonPayload).looked or event.time
