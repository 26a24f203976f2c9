"""Triggers: from what happened, and from clock ticks, to jobs; each cause fires a trigger once."""

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from tidemill.clock import Clock, parse_duration, uuid7
from tidemill.core.event import DataPayload, Event
from tidemill.core.policy import Policy
from tidemill.core.resources import Books, Sources
from tidemill.core.trigger import Job, Trigger
from tidemill.daemon.ticks import following, passed
from tidemill.errors import Conflict, TidemillError
from tidemill.faults import maybe_crash
from tidemill.ledger.events import record_event
from tidemill.registry.pauses import find_pause, pause_text

# Events of other processes may be committed a little after later ones of ours: look back this far.
_OVERLAP = timedelta(minutes=2)
_DAY = timedelta(days=1)
# What comes once, and will not be noticed again: it waits where other causes are dropped.
_COMES_ONCE = ("data", "rows", "code", "packages", "champion.missing")
_BUDGET = 24
_ON_TIME = timedelta(minutes=1)


class Triggers:
    """Fires the triggers of one environment; a job and its unique key are written in one transaction.

    `since` is the moment up to which a daemon before this one has looked at causes; without one, it is now.
    """

    def __init__(
        self, policy: Policy, books: Books, clock: Clock, environment: str, since: datetime | None = None
    ) -> None:
        self._policy = policy
        self._books = books
        self._clock = clock
        self._environment = environment
        self._seen: set[str] = set()
        self._ticked: dict[str, datetime] = {}
        now = clock.now()
        since = now if since is None else since
        # Where the clock was set back meanwhile, what it then said a second time is looked at, too.
        self._since = min(since, now - (since - now)) - _OVERLAP
        self._started = min(since, now)
        self.looked = since

    def emit_data_events(self, sources: Sources) -> int:
        """Write an event for each batch that is new in a source that a trigger waits for; how many there were.

        Raises
        ------
        TidemillError
            if a source cannot be looked at; the others were.
        """
        watched = {t.where.get("subject", "") for t in self._policy.triggers if t.on == "data"}
        noticed = 0
        fault: TidemillError | None = None
        for name in [name for name in self._policy.sources if name in watched or "" in watched]:
            known = self._books.events.values("dedupe_key", kind="data", subject=name, environment=self._environment)
            try:
                batches = sources.batches(name, self._clock.now())
            except TidemillError as unread:
                fault = unread
                continue
            for batch in batches:
                if f"data/{batch.id}" not in known:
                    payload = DataPayload(batch=batch.id, path=batch.path)
                    noticed += self.tell("data", name, f"data/{batch.id}", batch.known_at, to_builtins(payload))
        if fault is not None:
            raise fault
        return noticed

    def tell(self, kind: str, subject: str, key: str, time: datetime, payload: dict[str, Any]) -> bool:
        """Write an event, unless there is one with the same key already."""
        try:
            with self._books.transaction(durable=True):
                record_event(
                    self._books,
                    self._clock,
                    kind,
                    subject,
                    environment=self._environment,
                    key=key,
                    time=time,
                    payload=payload,
                )
        except Conflict:
            return False
        maybe_crash("event is told")
        return True

    def fire(self) -> list[Job]:
        """Turn new events and due ticks into jobs.

        What a cooldown, a budget or a pause holds back is dropped, since a cause that lasts will be noticed again; only
        what comes once, as new data does, waits until the trigger may fire. Either way the decision is kept, and a
        cause is decided on once.
        """
        now = self._clock.now()
        self._started = min(self._started, now)
        found = self._books.events.find(after=uuid7(self._since, 0))
        jobs = []
        for event in found:
            if event.id not in self._seen and event.environment == self._environment:
                jobs += [self._decide(t, event.dedupe_key, _model(t, event), event) for t in self._fitting(event)]
        for trigger in self._policy.triggers:
            jobs += self._tick(trigger, now)
        # Only now, so that a fault in between lets the next turn look again.
        begin = uuid7(now - _OVERLAP, 0)
        self._seen = {event.id for event in found if event.id > begin}
        self._since = now - _OVERLAP
        self.looked = now
        return [job for job in jobs if job is not None and job.state == "waiting"]

    def create_manual_job(self, pipeline: str, model: str, params: dict[str, Any], key: str) -> Job:
        """A job that somebody asked for; raises `Conflict` where the same key was asked for before."""
        job = self._job("hand", key, pipeline, model, params)
        with self._books.transaction(durable=True):
            return self._books.jobs.add(job)

    def next_tick(self) -> datetime | None:
        """When the next cron trigger is due."""
        return min((following(t, self._last_tick(t)) for t in self._policy.triggers if t.cron), default=None)

    def may_start(self, job: Job) -> bool:
        """Whether nobody has paused the trigger of a job that waits."""
        return self._paused(job.trigger) is None

    def _fitting(self, event: Event) -> list[Trigger]:
        facts = {"subject": event.subject, **{name: str(value) for name, value in event.payload.items()}}
        return [
            trigger
            for trigger in self._policy.triggers
            if trigger.on == event.kind and all(facts.get(name) == value for name, value in trigger.where.items())
        ]

    def _tick(self, trigger: Trigger, now: datetime) -> list[Job | None]:
        if not trigger.cron:
            return []
        last = self._last_tick(trigger)
        jobs = []
        for tick in passed(trigger, last, now):
            missed = trigger.catch_up == "none" and now - tick > _ON_TIME
            why = "nobody watched at that time (catch_up = none)" if missed else ""
            models = [trigger.model] if trigger.model else list(self._policy.models) or [""]
            # All or none: whoever comes after a crash takes a tick that left a job for one that was decided on.
            with self._books.transaction(durable=True):
                jobs += [self._decide(trigger, f"{tick.isoformat()}/{model}", model, None, why) for model in models]
            self._ticked[trigger.name] = tick
        return jobs

    def _last_tick(self, trigger: Trigger) -> datetime:
        """The last tick that was decided on, as far as the clock goes now: it may have been set back since."""
        last = self._ticked.get(trigger.name)
        if last is None or last > self._clock.now():
            last = self._ticked[trigger.name] = self._kept_tick(trigger)
        return last

    def _kept_tick(self, trigger: Trigger) -> datetime:
        before = uuid7(self._clock.now() + timedelta(seconds=1), 0)
        for job in self._books.jobs.find(
            trigger=trigger.name, environment=self._environment, newest=True, limit=1, before=before
        ):
            with suppress(ValueError):  # the trigger waited for events before
                return datetime.fromisoformat(job.dedupe_key.partition("/")[0])
        return self._started

    def _decide(self, trigger: Trigger, key: str, model: str, event: Event | None, why: str = "") -> Job | None:
        """The job of a cause, which may be dropped at once; None where the cause was decided on before."""
        job = self._job(trigger.name, key, trigger.pipeline, model, trigger.params, event.id if event else "")
        try:
            with self._books.transaction(durable=True):
                decided = self._books.jobs.add(self._held_back(job, trigger, event, why))
                maybe_crash("job is written")
        except Conflict:
            return None
        maybe_crash("job is kept")
        return decided

    def _held_back(self, job: Job, trigger: Trigger, event: Event | None, why: str) -> Job:
        paused = self._paused(trigger.name)
        until, why = (None, why) if why else self._free_again(trigger, job.model, job.created, event)
        waits = event is not None and event.kind in _COMES_ONCE
        if waits and (until or paused) and self._waits(trigger, job.model):
            return replace(job, state="dropped", error="a job that waits takes it in, too")
        if waits:
            return replace(job, available=until or job.available)
        why = why or (pause_text(paused) if paused else "")
        return replace(job, state="dropped", error=why) if why else job

    def _free_again(
        self, trigger: Trigger, model: str, now: datetime, event: Event | None
    ) -> tuple[datetime | None, str]:
        """When a trigger that its cooldown or budget holds back may fire again, and why it may not now."""
        cooldown, budget = parse_duration(trigger.cooldown), trigger.budget
        if budget is None and not cooldown and event is not None and event.kind not in _COMES_ONCE:
            budget = _BUDGET
        if budget is None and not cooldown:
            return None, ""
        after = uuid7(now - max(cooldown, _DAY), 0)
        jobs = self._books.jobs.find(trigger=trigger.name, model=model, newest=True, after=after)
        fired = [job for job in jobs if job.environment == self._environment and job.state != "dropped"]
        # A clock that was far ahead once holds nothing back for ever.
        rested = max((job.created for job in fired if job.created - now <= cooldown), default=now - cooldown) + cooldown
        if now < rested:
            return rested, f"its cooldown ({trigger.cooldown}) lasts until {rested:%Y-%m-%d %H:%M:%S}"
        today = sorted(job.created for job in fired if abs(job.created - now) < _DAY)
        if budget is not None and len(today) >= budget:
            return today[-budget] + _DAY, f"its budget ({budget} a day) is spent"
        return None, ""

    def _waits(self, trigger: Trigger, model: str) -> bool:
        """Whether a job of this trigger waits already: it will take in this cause, too."""
        waiting = self._books.jobs.find(trigger=trigger.name, model=model, state="waiting")
        return any(job.environment == self._environment for job in waiting)

    def _paused(self, name: str) -> Any:
        return find_pause(self._books, "trigger", name, environment=self._environment, now=self._clock.now())

    def _job(self, trigger: str, key: str, pipeline: str, model: str, params: dict[str, Any], event: str = "") -> Job:
        now = self._clock.now()
        return Job(
            id=self._clock.mint(),
            trigger=trigger,
            dedupe_key=key,
            pipeline=pipeline,
            environment=self._environment,
            state="waiting",
            created=now,
            available=now,
            model=model,
            params=params,
            event=event,
        )


def _model(trigger: Trigger, event: Event) -> str:
    return trigger.model or event.announcement.model
