"""Heartbeat: a daemon says in the ledger that it watches, and up to when it has looked at causes; others hear it."""

from datetime import datetime, timedelta

from msgspec import Struct
from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.event import Event
from tidemill.core.resources import Books

_EVERY = 5.0
SILENT = timedelta(minutes=1)


class Heartbeat:
    """The event of kind `daemon` of one daemon: `known_at` is its latest beat, and `looked` how far it has come."""

    def __init__(self, books: Books, clock: Clock, environment: str, host: str) -> None:
        self._books = books
        self._clock = clock
        self._beaten = clock.monotonic()
        now = clock.now()
        self._id = clock.mint()
        books.events.add(
            Event(
                id=self._id,
                kind="daemon",
                environment=environment,
                subject=host,
                time=now,
                known_at=now,
                dedupe_key=f"daemon/{self._id}",
                payload={"state": "watching"},
            )
        )

    def beat(self, looked: datetime) -> None:
        """Say that the daemon is well, every few seconds."""
        if self._clock.monotonic() >= self._beaten + _EVERY:
            self._say("watching", looked)

    def end(self, looked: datetime) -> None:
        """Say that the daemon ends as it was told to."""
        self._say("ended", looked)

    def _say(self, state: str, looked: datetime) -> None:
        now = self._clock.now()
        payload = {"state": state, "looked": looked.isoformat()}
        self._books.events.change(self._id, lambda event: replace(event, known_at=now, payload=payload))
        self._beaten = self._clock.monotonic()


class Pulse(Struct, frozen=True):
    """What is heard of the last daemon: who, its latest beat, and whether it is `watching`, `silent` or `ended`."""

    host: str
    beat: datetime
    state: str

    def __str__(self) -> str:
        said = {
            "watching": f"a daemon watches ({self.host})",
            "silent": f"the daemon ({self.host}) is silent since {self.beat:%Y-%m-%d %H:%M:%S}: is it running? "
            "start it again: `tidemill up`",
            "ended": f"no daemon watches since {self.beat:%Y-%m-%d %H:%M:%S}: `tidemill up`",
        }
        return said[self.state]


def pulse(books: Books, environment: str, now: datetime) -> Pulse | None:
    """What is heard of the last daemon of an environment; None where there never was one."""
    event = last(books, environment)
    if event is None:
        return None
    state = event.payload["state"]
    silent = state == "watching" and now - event.known_at > SILENT
    return Pulse(event.subject, event.known_at, "silent" if silent else state)


def looked(books: Books, environment: str) -> datetime | None:
    """Up to when the last daemon has looked at causes."""
    event = last(books, environment)
    if event is None:
        return None
    said = event.payload.get("looked")
    return datetime.fromisoformat(said) if said else event.time


def last(books: Books, environment: str) -> Event | None:
    """The event of the last daemon of an environment."""
    heard = books.events.find(kind="daemon", environment=environment, newest=True, limit=1)
    return heard[0] if heard else None
