"""Row counts: emits an event each time that a number of predictions or labels has arrived, for triggers with `rows`."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from msgspec import to_builtins

from tidemill.clock import Clock
from tidemill.core.event import RowCountPayload
from tidemill.core.policy import Policy
from tidemill.core.resources import BooksReader, JournalReader
from tidemill.core.trigger import Trigger

Emit = Callable[[str, str, str, datetime, dict[str, Any]], bool]


class RowCounts:
    """Counts the rows of the journal since the last event of each trigger; `emit` writes an event."""

    def __init__(self, policy: Policy, books: BooksReader, clock: Clock, environment: str, emit: Emit) -> None:
        self._triggers = [trigger for trigger in policy.triggers if trigger.rows is not None]
        self._models = list(policy.models)
        self._books, self._clock, self._environment, self._emit = books, clock, environment, emit
        self._counted: dict[tuple[str, str], datetime] = {}

    def emit_events(self, journal: JournalReader) -> int:
        """Emit an event for each trigger and model with enough new rows; return the number of events."""
        return sum(
            self._count(trigger, model, journal)
            for trigger in self._triggers
            for model in ([trigger.model] if trigger.model else self._models)
        )

    def _count(self, trigger: Trigger, model: str, journal: JournalReader) -> bool:
        now = self._clock.now()
        since = min(self.find_counted(trigger, model), now)
        rows = journal.read(f"{trigger.on}/{model}", since, now)
        if "role" in rows.columns:
            rows = rows.filter(rows["role"] != "shadow")
        assert trigger.rows is not None
        if rows.height < trigger.rows:
            return False
        until = rows["known_at"].max()
        assert isinstance(until, datetime)
        payload = RowCountPayload(model=model, trigger=trigger.name, rows=rows.height, until=until)
        key = f"{trigger.on}/{trigger.name}/{model}/{until.isoformat()}"
        self._counted[trigger.name, model] = until
        return self._emit(trigger.on, model, key, now, to_builtins(payload))

    def find_counted(self, trigger: Trigger, model: str) -> datetime:
        """Return the time up to which rows were counted: that of the last event, or of the start of this process."""
        if (trigger.name, model) not in self._counted:
            events = self._books.events.find(
                kind=trigger.on, subject=model, environment=self._environment, newest=True, limit=100
            )
            read = (event.read(RowCountPayload) for event in events)
            counted = (payload.until for payload in read if payload.trigger == trigger.name)
            self._counted[trigger.name, model] = next(counted, self._clock.now())
        return self._counted[trigger.name, model]
