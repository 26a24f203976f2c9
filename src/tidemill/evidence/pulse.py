"""Pulse: what is heard of the daemon of an environment, from its heartbeat in the ledger."""

from datetime import datetime, timedelta

from msgspec import Struct

from tidemill.core.event import DaemonPayload, Event
from tidemill.core.resources import BooksReader

_SILENT = timedelta(minutes=1)


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


def pulse(books: BooksReader, environment: str, now: datetime) -> Pulse | None:
    """What is heard of the last daemon of an environment; None where there never was one."""
    event = last(books, environment)
    if event is None:
        return None
    state = event.read(DaemonPayload).state
    silent = state == "watching" and now - event.known_at > _SILENT
    return Pulse(event.subject, event.known_at, "silent" if silent else state)


def last(books: BooksReader, environment: str) -> Event | None:
    """The event of the last daemon of an environment."""
    heard = books.events.find(kind="daemon", environment=environment, newest=True, limit=1)
    return heard[0] if heard else None
