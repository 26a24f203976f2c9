"""DaemonStatus: the state of the daemon of an environment, from its last heartbeat in the ledger."""

from datetime import datetime, timedelta

from msgspec import Struct

from tidemill.core.event import DaemonPayload, Event
from tidemill.core.resources import BooksReader

_SILENT_AFTER = timedelta(minutes=1)


class DaemonStatus(Struct, frozen=True):
    """The last daemon: its host, its latest heartbeat, and its state: `watching`, `silent` or `ended`."""

    host: str
    beat: datetime
    state: str

    def __str__(self) -> str:
        texts = {
            "watching": f"the daemon on {self.host} is running",
            "silent": f"the daemon on {self.host} has sent no heartbeat since {self.beat:%Y-%m-%d %H:%M:%S}: "
            "check whether it is running, or start it again: `tidemill up`",
            "ended": f"the daemon stopped at {self.beat:%Y-%m-%d %H:%M:%S}: start it again: `tidemill up`",
        }
        return texts[self.state]


def read_daemon_status(books: BooksReader, environment: str, now: datetime) -> DaemonStatus | None:
    """Return the status of the last daemon of an environment; None if there never was one."""
    event = find_last_beat(books, environment)
    if event is None:
        return None
    state = event.read(DaemonPayload).state
    silent = state == "watching" and now - event.known_at > _SILENT_AFTER
    return DaemonStatus(event.subject, event.known_at, "silent" if silent else state)


def find_last_beat(books: BooksReader, environment: str) -> Event | None:
    """Return the heartbeat event of the last daemon of an environment."""
    events = books.events.find(kind="daemon", environment=environment, newest=True, limit=1)
    return events[0] if events else None
