"""Triggers: create jobs from events and clock ticks; each cause fires a trigger once."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from tidemill.clock import Clock, parse_duration, uuid7
from tidemill.core.event import DataPayload, Event
from tidemill.core.policy import Policy
from tidemill.core.resources import Books, Sources
from tidemill.core.trigger import Job, Trigger
from tidemill.daemon.readable import find_readable
from tidemill.daemon.ticks import find_next, list_passed
from tidemill.errors import Conflict, TidemillError
from tidemill.faults import maybe_crash
from tidemill.flow.stated import store_params
from tidemill.ledger.events import record_event
from tidemill.registry.bindings import find_requested_value
from tidemill.registry.pauses import find_pause, format_pause
from tidemill.registry.retrainings import find_raised_bar, list_unhelpful

# Events of other processes may be committed shortly after later events of this process: read this far back.
_OVERLAP = timedelta(minutes=2)
_DAY = timedelta(days=1)
# Causes that occur only once, and are not emitted again: their jobs wait, while jobs of other causes are dropped.
_ONE_TIME_KINDS = ("data", "rows", "code", "packages", "champion.missing", "push", "build")
# Each of these causes needs a job of its own: a job that waits covers no later one.
_SEPARATE_KINDS = ("push", "build")
# Causes that come with every few rows: no default budget, and a job that waits covers the rows of later ones.
_ROW_KINDS = ("predictions", "labels")
_DEFAULT_BUDGET = 24
_ON_TIME = timedelta(minutes=1)

FindSameRows = Callable[[str, str], str]
"""A function of a pipeline and a model: why a run would train on the same rows as the last one, or an empty text."""
# What these jobs asked for did not happen, so they spend neither cooldown nor budget.
_UNSPENT_STATES = ("stopped", "failed", "cancelled")


class Triggers:
    """The triggers of one environment; a job and its unique key are written in one transaction.

    `since` is the time up to which an earlier daemon has checked for events; without it, it is now. `find_same_rows`
    returns why a pipeline would train a model on the same rows as its last run; empty if there are new rows. `report`
    shows which damaged records are skipped.
    """

    def __init__(
        self,
        policy: Policy,
        books: Books,
        clock: Clock,
        environment: str,
        since: datetime | None = None,
        find_same_rows: FindSameRows | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._policy = policy
        self._books = books
        self._clock = clock
        self._environment = environment
        self._find = partial(find_readable, report=report)
        self._find_same_rows = find_same_rows or (lambda _pipeline, _model: "")
        self._seen: set[str] = set()
        self._last_ticks: dict[str, datetime] = {}
        now = clock.now()
        since = now if since is None else since
        # If the clock was set back meanwhile, check the repeated times too.
        self._since = min(since, now - (since - now)) - _OVERLAP
        self._are_pushes_checked = False
        self._started = min(since, now)
        self.last_check = since

    def emit_data_events(self, sources: Sources) -> int:
        """Emit an event for each new batch of a source that a trigger waits for; return the number of events.

        Raises
        ------
        TidemillError
            if a source cannot be read; events for the other sources are emitted.
        """
        watched = {trigger.where.get("subject", "") for trigger in self._policy.triggers if trigger.on == "data"}
        count = 0
        error: TidemillError | None = None
        for name in [name for name in self._policy.sources if name in watched or "" in watched]:
            emitted = self._books.events.values("dedupe_key", kind="data", subject=name, environment=self._environment)
            try:
                batches = sources.batches(name, self._clock.now())
            except TidemillError as unreadable:
                error = unreadable
                continue
            for batch in batches:
                if f"data/{batch.id}" not in emitted:
                    payload = DataPayload(batch=batch.id, path=batch.path)
                    count += self.emit("data", name, f"data/{batch.id}", batch.known_at, to_builtins(payload))
        if error is not None:
            raise error
        return count

    def emit(self, kind: str, subject: str, key: str, time: datetime, payload: dict[str, Any]) -> bool:
        """Write an event; return whether it is new: an event with the same key is not written again."""
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
        maybe_crash("event is emitted")
        return True

    def fire(self) -> list[Job]:
        """Create jobs from new events and clock ticks, and return those that wait to run.

        If a cooldown, a budget or a pause prevents a trigger from firing, its job is dropped: a lasting cause emits
        another event. A job for a cause that occurs once, such as new data, waits until the trigger may fire. Each
        cause is decided once, and the decision is stored.
        """
        now = self._clock.now()
        self._started = min(self._started, now)
        events = [*self._find_earlier_pushes(), *self._find(self._books.events, after=uuid7(self._since, 0))]
        new = [event for event in events if event.id not in self._seen and event.environment == self._environment]
        jobs: list[Job | None] = []
        errors: list[TidemillError] = []
        for trigger in self._policy.triggers:
            try:
                for event in new:
                    if _matches(trigger, event):
                        jobs.append(self._decide(trigger, event.dedupe_key, _choose_model(trigger, event), event))
                jobs += self._fire_ticks(trigger, now)
            except TidemillError as error:  # one trigger that cannot fire delays no other
                errors.append(error)
        if errors:
            raise errors[0]
        # Only now: after an error in between, the next call checks these events again.
        begin = uuid7(now - _OVERLAP, 0)
        self._are_pushes_checked = True
        self._seen = {event.id for event in events if event.id > begin}
        self._since = now - _OVERLAP
        self.last_check = now
        return [job for job in jobs if job is not None and job.state == "waiting"]

    def _find_earlier_pushes(self) -> list[Event]:
        """Return, once after the start, the newest push of each branch that was recorded while no daemon ran.

        A hook records pushes also before the first daemon, which checks no other events of that time.
        """
        if self._are_pushes_checked or not any(trigger.on == "push" for trigger in self._policy.triggers):
            return []
        before = uuid7(self._since, 0)
        pushes = self._find(self._books.events, kind="push", environment=self._environment, before=before)
        return list({event.subject: event for event in pushes}.values())

    def create_manual_job(self, pipeline: str, model: str, params: dict[str, Any], key: str) -> Job:
        """Create a job that a person requested; raise `Conflict` if a job with the same key exists."""
        return self._add(self._make_job("hand", key, pipeline, model, params))

    def create_job(self, trigger: str, pipeline: str, params: dict[str, Any], key: str, model: str = "") -> Job:
        """Create a job for a cause with a key; raise `Conflict` if the trigger has a job for this cause."""
        return self._add(self._make_job(trigger, key, pipeline, model, params))

    def _add(self, job: Job) -> Job:
        with self._books.transaction(durable=True):
            return self._books.jobs.add(job)

    def next_tick(self) -> datetime | None:
        """Return the time of the next clock tick of a cron trigger; None without cron triggers."""
        timed = [trigger for trigger in self._policy.triggers if trigger.cron]
        ticks = (find_next(trigger, self._find_last_tick(trigger)) for trigger in timed)
        return min((tick for tick in ticks if tick is not None), default=None)

    def is_due(self, job: Job, now: datetime) -> bool:
        """Return whether the time of a waiting job has come, or was written while the clock was ahead."""
        cooldowns = (parse_duration(trigger.cooldown) for trigger in self._policy.triggers)
        longest = max(cooldowns, default=_DAY)
        return (
            job.available <= now or job.created > now + _ON_TIME or job.available > now + max(longest, _DAY) + _ON_TIME
        )

    def may_start(self, job: Job) -> bool:
        """Return whether the trigger of a waiting job is not paused."""
        return self._find_pause(job.trigger) is None

    def _fire_ticks(self, trigger: Trigger, now: datetime) -> list[Job | None]:
        if not trigger.cron:
            return []
        last = self._find_last_tick(trigger)
        jobs = []
        for tick in list_passed(trigger, last, now):
            is_missed = trigger.catch_up == "none" and now - tick > _ON_TIME
            reason = "no daemon was running at that time (catch_up = none)" if is_missed else ""
            models = [trigger.model] if trigger.model else list(self._policy.models) or [""]
            # In one transaction: after a crash, a tick with one job counts as decided for all models.
            with self._books.transaction(durable=True):
                jobs += [self._decide(trigger, f"{tick.isoformat()}/{model}", model, None, reason) for model in models]
            self._last_ticks[trigger.name] = tick
        return jobs

    def _find_last_tick(self, trigger: Trigger) -> datetime:
        """Return the last tick that was decided and is not in the future: the clock may have been set back since."""
        last = self._last_ticks.get(trigger.name)
        if last is None or last > self._clock.now():
            last = self._last_ticks[trigger.name] = self._read_last_tick(trigger)
        return last

    def _read_last_tick(self, trigger: Trigger) -> datetime:
        before = uuid7(self._clock.now() + timedelta(seconds=1), 0)
        for job in self._find(
            self._books.jobs, trigger=trigger.name, environment=self._environment, newest=True, limit=1, before=before
        ):
            with suppress(ValueError):  # an earlier version of the trigger waited for events
                return datetime.fromisoformat(job.dedupe_key.partition("/")[0])
        return self._started

    def _decide(self, trigger: Trigger, key: str, model: str, event: Event | None, reason: str = "") -> Job | None:
        """Write the job of a cause, possibly as dropped; return None if the cause was decided before."""
        job = self._make_job(trigger.name, key, trigger.pipeline, model, trigger.params, event.id if event else "")
        try:
            with self._books.transaction(durable=True):
                decided = self._books.jobs.add(self._apply_limits(job, trigger, event, reason))
                maybe_crash("job is written")
        except Conflict:
            return None
        maybe_crash("job is committed")
        return decided

    def _apply_limits(self, job: Job, trigger: Trigger, event: Event | None, reason: str) -> Job:
        """Return the job, postponed or dropped if a cooldown, a budget or a pause prevents the trigger from firing."""
        pause = self._find_pause(trigger.name)
        until, reason = (None, reason) if reason else self._find_limit(trigger, job.model, job.created, event)
        must_wait = event is not None and event.kind in _ONE_TIME_KINDS
        if event is not None and event.kind in _ROW_KINDS and self._has_waiting_job(trigger, job.model):
            return replace(job, state="dropped", error="a waiting job includes this cause")
        is_separate = event is not None and event.kind in _SEPARATE_KINDS
        if must_wait and not is_separate and (until or pause) and self._has_waiting_job(trigger, job.model):
            return replace(job, state="dropped", error="a waiting job includes this cause")
        if must_wait:
            return replace(job, available=until or job.available)
        reason = reason or (format_pause(pause) if pause else "") or self._find_repetition(trigger, job.model, event)
        return replace(job, state="dropped", error=reason) if reason else job

    def _find_limit(
        self, trigger: Trigger, model: str, now: datetime, event: Event | None
    ) -> tuple[datetime | None, str]:
        """Return when a trigger may fire again and why it may not fire now; (None, "") if it may."""
        cooldown, budget = parse_duration(trigger.cooldown), trigger.budget
        if budget is None and not cooldown and event is not None and event.kind not in (*_ONE_TIME_KINDS, *_ROW_KINDS):
            budget = _DEFAULT_BUDGET
        if budget is None and not cooldown:
            return None, ""
        after = uuid7(now - max(cooldown, _DAY), 0)
        jobs = self._find(self._books.jobs, trigger=trigger.name, model=model, newest=True, after=after)
        fired = [job for job in jobs if job.environment == self._environment and job.state != "dropped"]
        # Without any limit of the policy, failures count: a cause that lasts would otherwise fire forever.
        spent = [job for job in fired if job.state not in _UNSPENT_STATES] if cooldown or trigger.budget else fired
        # Ignore jobs in the future: the clock may have been ahead once.
        end = max((job.created for job in spent if job.created - now <= cooldown), default=now - cooldown) + cooldown
        if now < end:
            return end, f"its cooldown ({trigger.cooldown}) lasts until {end:%Y-%m-%d %H:%M:%S}"
        if event is not None and event.kind == "verdict" and cooldown:
            unhelpful = list_unhelpful(self._books, self._environment, model, trigger.name)
            end = find_raised_bar(unhelpful, cooldown, now)
            if now < end:
                count = "the last retraining" if len(unhelpful) == 1 else f"the last {len(unhelpful)} retrainings"
                return end, f"{count} did not help: the next one may start at {end:%Y-%m-%d %H:%M:%S}"
        today = sorted(job.created for job in spent if abs(job.created - now) < _DAY)
        if budget is not None and len(today) >= budget:
            return today[-budget] + _DAY, f"its budget ({budget} a day) is spent"
        return None, ""

    def _find_repetition(self, trigger: Trigger, model: str, event: Event | None) -> str:
        """Return why a cause that lasts would start the same training again; empty for a cause that occurs once."""
        if event is None or event.kind in _ONE_TIME_KINDS:
            return ""
        if event.payload.get("check") == "regime" and self._names_value(event, model):
            return ""  # the last run may have trained on the rows of another value; a request is not repeated
        models = self._policy.models
        return self._find_same_rows(trigger.pipeline, model or (next(iter(models)) if len(models) == 1 else ""))

    def _names_value(self, event: Event, model: str) -> bool:
        policy = self._policy.models.get(model)
        return policy is not None and bool(find_requested_value(self._books, event.id, policy.regimes.key))

    def _has_waiting_job(self, trigger: Trigger, model: str) -> bool:
        """Return whether a job of this trigger is waiting: its run includes this cause."""
        waiting = self._find(self._books.jobs, trigger=trigger.name, model=model, state="waiting")
        return any(job.environment == self._environment for job in waiting)

    def _find_pause(self, name: str) -> Any:
        return find_pause(self._books, "trigger", name, environment=self._environment, now=self._clock.now())

    def _make_job(
        self, trigger: str, key: str, pipeline: str, model: str, params: dict[str, Any], event: str = ""
    ) -> Job:
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
            params=store_params(params),
            event=event,
        )


def _matches(trigger: Trigger, event: Event) -> bool:
    if trigger.on != event.kind:
        return False
    facts = {"subject": event.subject, **{name: str(value) for name, value in event.payload.items()}}
    has_facts = all(facts.get(name) == value for name, value in trigger.where.items())
    return has_facts and (trigger.rows is None or facts.get("trigger") == trigger.name)


def _choose_model(trigger: Trigger, event: Event) -> str:
    return trigger.model or event.announcement.model
