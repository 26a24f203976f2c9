"""Triggers: from what happened, and from clock ticks, to jobs; each cause fires a trigger once."""

from datetime import UTC, datetime, timedelta
from typing import Any

from croniter import croniter

from tidemill.clock import Clock, span, uuid7
from tidemill.core.event import Event
from tidemill.core.policy import Policy
from tidemill.core.resources import Books, Sources
from tidemill.core.trigger import Job, Trigger
from tidemill.errors import Conflict

# Events of other processes may be committed a little after later ones of ours: look back this far.
_OVERLAP = timedelta(minutes=2)


class Triggers:
    """Fires the triggers of one environment; a job and its unique key are written in one transaction."""

    def __init__(self, policy: Policy, books: Books, clock: Clock, environment: str) -> None:
        self._policy = policy
        self._books = books
        self._clock = clock
        self._environment = environment
        self._seen: set[str] = set()
        self._since = clock.now() - _OVERLAP
        self._started = clock.now()

    def notice(self, sources: Sources) -> int:
        """Write an event for each batch that is new in a source that a trigger waits for; how many there were."""
        watched = {t.where.get("subject", "") for t in self._policy.triggers if t.on == "data"}
        names = [name for name in self._policy.sources if name in watched or "" in watched]
        noticed = 0
        for name in names:
            known = self._books.events.values("dedupe_key", kind="data", subject=name)
            for batch in sources.batches(name, self._clock.now()):
                if f"data/{batch.id}" not in known:
                    payload = {"batch": batch.id, "path": batch.path}
                    noticed += self.tell("data", name, f"data/{batch.id}", batch.known_at, payload)
        return noticed

    def tell(self, kind: str, subject: str, key: str, time: datetime, payload: dict[str, Any]) -> bool:
        """Write an event, unless there is one with the same key already."""
        try:
            with self._books.transaction(durable=True):
                self._books.events.add(
                    Event(
                        id=self._clock.mint(),
                        kind=kind,
                        environment=self._environment,
                        subject=subject,
                        time=time,
                        known_at=self._clock.now(),
                        dedupe_key=key,
                        payload=payload,
                    )
                )
        except Conflict:
            return False
        return True

    def fire(self) -> list[Job]:
        """Turn new events and due ticks into jobs.

        What a cooldown or a budget holds back is dropped, since a cause that lasts will be noticed again; only new
        data, which comes once, waits until the trigger may fire.
        """
        now = self._clock.now()
        events = [e for e in self._books.events.find(after=uuid7(self._since, 0)) if e.id not in self._seen]
        self._seen = {e.id for e in self._books.events.find(after=uuid7(now - _OVERLAP, 0))} | {e.id for e in events}
        self._since = now - _OVERLAP
        fired = []
        for event in events:
            if event.environment == self._environment:
                fired += [self._fire(t, event.dedupe_key, _model(t, event), event) for t in self._fitting(event)]
        for trigger in self._policy.triggers:
            if trigger.cron and (tick := self._due(trigger)) is not None:
                for model in [trigger.model] if trigger.model else list(self._policy.models):
                    fired.append(self._fire(trigger, f"{tick.isoformat()}/{model}", model, None))
        return [job for job in fired if job is not None]

    def by_hand(self, pipeline: str, model: str, params: dict[str, Any], key: str) -> Job:
        """A job that somebody asked for; raises `Conflict` where the same key was asked for before."""
        now = self._clock.now()
        job = Job(
            id=self._clock.mint(),
            trigger="hand",
            dedupe_key=key,
            pipeline=pipeline,
            environment=self._environment,
            state="waiting",
            created=now,
            available=now,
            model=model,
            params=params,
        )
        with self._books.transaction(durable=True):
            return self._books.jobs.add(job)

    def next_tick(self) -> datetime | None:
        """When the next cron trigger is due."""
        ticks = [
            croniter(t.cron, self._last_tick(t)).get_next(datetime).astimezone(UTC)
            for t in self._policy.triggers
            if t.cron
        ]
        return min(ticks, default=None)

    def _fitting(self, event: Event) -> list[Trigger]:
        facts = {"subject": event.subject, **{name: str(value) for name, value in event.payload.items()}}
        return [
            trigger
            for trigger in self._policy.triggers
            if trigger.on == event.kind and all(facts.get(name) == value for name, value in trigger.where.items())
        ]

    def _due(self, trigger: Trigger) -> datetime | None:
        """The latest tick that has passed since the trigger last fired: of several missed ones only the last counts."""
        now = self._clock.now()
        latest = croniter(trigger.cron, now + timedelta(seconds=1)).get_prev(datetime).astimezone(UTC)
        return latest if latest > self._last_tick(trigger) else None

    def _last_tick(self, trigger: Trigger) -> datetime:
        last = self._books.jobs.find(trigger=trigger.name, newest=True, limit=1)
        return datetime.fromisoformat(last[0].dedupe_key.partition("/")[0]) if last else self._started

    def _fire(self, trigger: Trigger, key: str, model: str, event: Event | None) -> Job | None:
        now = self._clock.now()
        available = now
        if event is not None and (free := self._free_again(trigger, model, now)) is not None:
            if event.kind != "data" or self._waits(trigger, model):
                return None
            available = free
        job = Job(
            id=self._clock.mint(),
            trigger=trigger.name,
            dedupe_key=key,
            pipeline=trigger.pipeline,
            environment=self._environment,
            state="waiting",
            created=now,
            available=available,
            model=model,
            params=trigger.params,
            event=event.id if event else "",
        )
        try:
            with self._books.transaction(durable=True):
                return self._books.jobs.add(job)
        except Conflict:
            return None

    def _free_again(self, trigger: Trigger, model: str, now: datetime) -> datetime | None:
        """When a trigger that its cooldown or budget holds back may fire again; None where nothing holds it."""
        earlier = self._books.jobs.find(trigger=trigger.name, model=model, newest=True, limit=trigger.budget or 1)
        if earlier and now < (rested := earlier[0].created + span(trigger.cooldown)):
            return rested
        today = [job for job in earlier if job.created > now - timedelta(days=1)]
        if trigger.budget is not None and len(today) >= trigger.budget:
            return today[-1].created + timedelta(days=1)
        return None

    def _waits(self, trigger: Trigger, model: str) -> bool:
        """Whether a job of this trigger waits already: it will take in this cause too."""
        return bool(self._books.jobs.find(trigger=trigger.name, model=model, state="waiting", limit=1))


def _model(trigger: Trigger, event: Event) -> str:
    return trigger.model or str(event.payload.get("model", ""))
