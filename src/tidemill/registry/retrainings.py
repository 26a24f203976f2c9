"""Retrainings that a verdict requested, and whether they helped: a loop that retrains in vain must slow down."""

from datetime import datetime, timedelta

from msgspec import Struct

from tidemill.core.event import Event, VerdictPayload
from tidemill.core.resources import BooksReader
from tidemill.core.trigger import Job
from tidemill.registry.routing import list_routes

_MOST = 12  # more in a row change nothing


class Retraining(Struct, frozen=True, kw_only=True):
    """A retraining that did not help: when it was requested, the check that requested it, and what became of it.

    `released` is whether its model was in production; a candidate that was refused never was.
    """

    time: datetime
    check: str
    run: str
    reason: str
    released: bool


def list_unhelpful(books: BooksReader, environment: str, model: str, trigger: str = "") -> list[Retraining]:
    """Return the newest retrainings in a row that did not help, newest first, of one trigger or of all.

    A retraining did not help if it failed, its candidate was refused or built the same model again, its release never
    became champion and was bound to no value of the key, or the check that requested it has failed for its release and
    never passed. One that is running, or whose canary is, is not judged yet.
    """
    unhelpful: list[Retraining] = []
    for job in _list_jobs(books, environment, model, trigger):
        if job.environment != environment or job.state in ("waiting", "running", "dropped", "cancelled"):
            continue
        event = _find_cause(books, job)
        if event is None:
            continue
        payload = event.read(VerdictPayload)
        found = _judge(books, environment, model, job, payload.check)
        if found is None or len(unhelpful) == _MOST:
            break
        unhelpful.append(found)
    return unhelpful


def _list_jobs(books: BooksReader, environment: str, model: str, trigger: str) -> list[Job]:
    """Return the newest jobs of a trigger; without one, those whose candidates the gate judged, newest first."""
    if trigger:
        return books.jobs.find(trigger=trigger, model=model, newest=True, limit=10 * _MOST)
    verdicts = books.verdicts.find(check="gate", model=model, environment=environment, newest=True, limit=2 * _MOST)
    runs = dict.fromkeys(verdict.run for verdict in verdicts)
    causes = [run.started_by.job for identifier in runs for run in books.runs.find(id=identifier, limit=1)]
    return [job for cause in causes if cause for job in books.jobs.find(id=cause, limit=1)]


def _find_cause(books: BooksReader, job: Job) -> Event | None:
    """Return the verdict's event that requested a job."""
    events = books.events.find(id=job.event, limit=1) if job.event else []
    return events[0] if events and events[0].kind == "verdict" else None


def _judge(books: BooksReader, environment: str, model: str, job: Job, check: str) -> Retraining | None:
    """Return why a retraining did not help; None if it helped, or if that is not known yet."""

    def unhelpful(reason: str, *, released: bool = False) -> Retraining:
        return Retraining(time=job.created, check=check, run=job.run, reason=reason, released=released)

    if job.state != "done":
        return unhelpful(job.error or job.state)
    releases = books.releases.find(run=job.run, limit=1) if job.run else []
    if not releases:
        return unhelpful("it built a model that had been released before")
    label = releases[0].label
    roles = [arm.role for route in list_routes(books, environment, model) for arm in route.arms if arm.release == label]
    if not {"champion", "bound"} & set(roles):
        routes = list_routes(books, environment, model)
        is_over = bool(roles) and all(arm.release != label for arm in routes[-1].arms)
        return unhelpful(f"the canary of {label} was rolled back", released=True) if is_over else None
    outcomes = [
        outcome
        for outcome in ("pass", "fail")
        if books.verdicts.find(subject=label, check=check, environment=environment, outcome=outcome, limit=1)
    ]
    if outcomes != ["fail"]:
        return None
    return unhelpful(f"{check} of {label} has failed since its release", released=True)


def find_raised_bar(unhelpful: list[Retraining], cooldown: timedelta, now: datetime) -> datetime:
    """Return when the next retraining may start after retrainings in a row that did not help, newest first.

    A refused or failed one does not spend the cooldown: the next attempt waits for a sixteenth of it, then for an
    eighth, and so on, up to the whole cooldown. After a second one in a row that was in production and did not help,
    the next one waits for two cooldowns.
    """
    if not unhelpful:
        return now
    newest, count = unhelpful[0], len(unhelpful)
    factor = min(2.0, 2.0 ** (count - 1)) if newest.released else min(1.0, 2.0 ** (count - 5))
    return newest.time + factor * cooldown
