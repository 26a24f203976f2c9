"""Garbage collection of blobs: make a plan, then delete the blobs of the plan.

A blob is kept while a root refers to it: the package of a kept release with the artifacts of its run, the artifacts of
a run or step that has not expired, and those of a running run. A young blob is kept too, because a run may be about to
refer to it. The records of the ledger are kept for ever; the record of an artifact has the time of its collection.

A run at the same time is safe for this reason. First, each blob without a reference since the plan is marked as
`collected` in the ledger, in transactions that exclude other writers. From then on the cache ignores the artifact: a
run computes it again, stores the bytes again, which makes them young, and removes the mark when it commits. Runs that
used the artifact before the mark have a short time to commit. Then the collection deletes the bytes that are still
marked, not young and without a reference, and removes the mark of the others. If it is killed, marked bytes remain: no
run uses them, and the next collection deletes them. Bytes that are stored again between the check of their age and
their deletion are missing in the next run that needs them, which computes them again.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from tidemill.blobs.artifacts import list_members
from tidemill.blobs.store import Blobs
from tidemill.clock import Clock, parse_duration, uuid7
from tidemill.core.artifact import Artifact
from tidemill.core.policy import Retention
from tidemill.core.release import Release
from tidemill.core.resources import Book
from tidemill.core.route import Route
from tidemill.core.run import Run, StepRun
from tidemill.errors import Conflict, Corrupt, NotFound
from tidemill.faults import maybe_crash
from tidemill.ledger.ledger import Ledger

T = TypeVar("T", bound=Struct)
GRACE = timedelta(hours=1)
_AT_WORK = timedelta(days=7)  # a run with the state `running` for a longer time is dead
_SKEW = timedelta(minutes=10)  # the most difference between the clocks of machines
_BATCH = 100
_PAGE = 1_000
_UNEXPIRED = "its run is not expired"


class Group(Struct, frozen=True, kw_only=True):
    """Blobs of one kind that are deleted or kept for the same reason: number, size, and the time of the oldest."""

    kind: str
    why: str
    count: int
    bytes: int
    oldest: datetime


class Doomed(Struct, frozen=True):
    """A blob to delete; `known` is whether the ledger has a record of it."""

    digest: str
    kind: str
    size: int
    known: bool


class Plan(Struct, frozen=True, kw_only=True):
    """The blobs to delete and to keep; the plan does not cover references after `since` (an id)."""

    goes: tuple[Group, ...]
    stays: tuple[Group, ...]
    doomed: tuple[Doomed, ...]
    since: str


class Collected(Struct, frozen=True):
    """The result of a collection; `spared` is the number of blobs that a run has referred to since the plan."""

    count: int
    bytes: int
    spared: int


def plan(ledger: Ledger, blobs: Blobs, retention: Retention, now: datetime, *, grace: timedelta = GRACE) -> Plan:
    """Plan which blobs to delete, by kind, and why the others are kept; nothing is changed.

    Blobs that were stored within `grace` are kept, because a run may be about to refer to them.
    """
    stored = {one.digest: one for one in blobs.list_blobs()}
    at_work = [run for run in ledger.runs.find(state="running") if _is_at_work(run, now)]
    since = uuid7(min([now, *(run.started for run in at_work)]) - _SKEW, 0)
    needed = _needed(ledger, retention, now)
    for digest in _named_since(ledger, since):
        needed.setdefault(digest, "it was named just now")
    kinds = dict(_kinds(ledger, blobs, needed))
    goes, stays, doomed = _Groups(), _Groups(), []
    for digest, one in stored.items():
        born = now - timedelta(seconds=one.age)
        kind = kinds.get(digest, "orphan")
        if digest in needed:
            stays.add(kind, needed[digest], one.size, born)
        elif now - born < grace:
            stays.add(kind, "young: a run may be about to name it", one.size, born)
        elif digest not in kinds and now - born < parse_duration(retention.orphans):
            stays.add(kind, f"no run names it; it goes {retention.orphans} after it was put", one.size, born)
        else:
            why = "what is kept does not need it" if digest in kinds else "no run names it"
            goes.add(kind, why, one.size, born)
            doomed.append(Doomed(digest, kind, one.size, known=digest in kinds))
    return Plan(goes=goes.all(), stays=stays.all(), doomed=tuple(doomed), since=since)


def collect(
    ledger: Ledger, blobs: Blobs, planned: Plan, clock: Clock, *, grace: timedelta = GRACE, pause: float = 5.0
) -> Collected:
    """Delete the blobs of a plan that have no newer reference; after a crash it can be planned and run again.

    If runs are running, it waits for `pause` seconds before it deletes, so that they can commit.
    """
    marked = [one for batch in _batches(planned.doomed) for one in _mark(ledger, batch, planned.since, clock.now())]
    maybe_crash("gc has marked")
    if marked and ledger.runs.find(state="running", limit=1):
        clock.sleep(pause)
    young = {one.digest for one in blobs.list_blobs() if one.age < grace.total_seconds()} if marked else set()
    settled = [one for one in marked if one.digest not in young]
    gone = [one for batch in _batches(settled) for one in _sweep(ledger, blobs, batch, planned.since)]
    blobs.delete_drafts(GRACE.total_seconds())
    return Collected(len(gone), sum(one.size for one in gone), len(planned.doomed) - len(gone))


def _batches(doomed: Sequence[Doomed]) -> Iterator[Sequence[Doomed]]:
    for first in range(0, len(doomed), _BATCH):
        yield doomed[first : first + _BATCH]


def _mark(ledger: Ledger, batch: Sequence[Doomed], since: str, now: datetime) -> list[Doomed]:
    with ledger.alone():
        named = _named_since(ledger, since)
        marked = [one for one in batch if one.digest not in named and _is_marked(ledger, one, now)]
        maybe_crash("gc marks")
    return marked


def _is_marked(ledger: Ledger, one: Doomed, now: datetime) -> bool:
    try:
        ledger.artifacts.add(Artifact(id=one.digest, kind=one.kind, size=one.size, collected=now))
    except Conflict:
        return bool(ledger.artifacts.change(one.digest, lambda a: _collected(a, one, now)).collected)
    return True


def _collected(artifact: Artifact, one: Doomed, now: datetime) -> Artifact:
    # If the record is newer than the plan, a run has written it.
    return replace(artifact, collected=now) if one.known and not artifact.collected else artifact


def _sweep(ledger: Ledger, blobs: Blobs, marked: Sequence[Doomed], since: str) -> list[Doomed]:
    gone = []
    with ledger.alone():
        named = _named_since(ledger, since)
        for one in marked:
            if one.digest in named:
                ledger.artifacts.change(one.digest, lambda a: replace(a, collected=None))
            elif ledger.artifacts.get(one.digest).collected:
                blobs.delete(one.digest)
                gone.append(one)
                maybe_crash("gc has deleted")
    return gone


def _needed(ledger: Ledger, retention: Retention, now: datetime) -> dict[str, str]:
    """Return every digest that a root refers to, with the reason."""
    needed: dict[str, str] = {}
    kept = _kept_releases(ledger, retention, now)
    lineage = {release.run for release in kept if release.run}
    alive: dict[str, str] = {}
    for release in kept:
        needed[release.package] = "a release needs it"
    for run in _all(ledger.runs):
        if why := "a release needs it" if run.id in lineage else _why_kept(run, retention, now):
            alive[run.id] = why
            for digest in list_blobs_of_run(run):
                needed.setdefault(digest, why)
    lapsed: defaultdict[str, set[str]] = defaultdict(set)
    for step in _all(ledger.steps):
        why = alive.get(step.run, "")
        if step.expires is not None and why == _UNEXPIRED:
            why = ""
            if step.expires <= now:
                lapsed[step.run].update(step.outputs.values())
        if step.expires is not None and step.expires > now:
            why = why or "its step keeps it"
        # An expired output is not kept because a later step of the same run used it: both are computed again.
        inputs = set(step.inputs.values()) - lapsed[step.run] if step.run in alive else set()
        outputs = set(step.outputs.values()) if why else set()
        log = {step.log_blob} if step.log_blob and step.run in alive else set()
        for digest in outputs | inputs | log:
            needed.setdefault(digest, why or _UNEXPIRED)
    return needed


def _why_kept(run: Run, retention: Retention, now: datetime) -> str:
    if run.state == "running" and _is_at_work(run, now):
        return "its run is at work"
    return _UNEXPIRED if (run.ended or run.started) + parse_duration(retention.runs) > now else ""


def _is_at_work(run: Run, now: datetime) -> bool:
    return max([run.started, *(attempt.started for attempt in run.attempts)]) > now - _AT_WORK


def _kept_releases(ledger: Ledger, retention: Retention, now: datetime) -> list[Release]:
    """Return all releases; with a limit, those in production, the last champions and the young ones."""
    releases = list(_all(ledger.releases))
    if retention.releases is None:
        return releases
    versions: defaultdict[tuple[str, str], list[Route]] = defaultdict(list)
    for route in _all(ledger.routes):
        versions[route.environment, route.model].append(route)
    labels: set[str] = set()
    for routes in versions.values():
        routes.sort(key=lambda route: -route.version)
        serving = {arm.release for arm in routes[0].arms}
        champions = dict.fromkeys(arm.release for route in routes for arm in route.arms if arm.role == "champion")
        labels |= serving | set([label for label in champions if label not in serving][: retention.releases])
    young = now - parse_duration(retention.runs)
    return [release for release in releases if release.label in labels or release.created > young]


def _kinds(ledger: Ledger, blobs: Blobs, needed: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Iterate over the kind of every blob in the ledger; members of needed artifacts become needed, too."""
    for run in _all(ledger.runs):
        yield from ((digest, "environment") for digest in list_blobs_of_run(run))
    for step in _all(ledger.steps):
        if step.log_blob:
            yield step.log_blob, "log"
    for release in _all(ledger.releases):
        yield release.package, "model"
    for artifact in _all(ledger.artifacts):
        yield artifact.id, artifact.kind
        if artifact.id in needed:
            for member in _members(blobs, artifact):
                needed.setdefault(member.id, needed[artifact.id])
                yield member.id, member.kind


def _members(blobs: Blobs, artifact: Artifact) -> Iterator[Artifact]:
    with suppress(NotFound, Corrupt):
        for member in list_members(blobs, artifact):
            yield member
            yield from _members(blobs, member)


def _named_since(ledger: Ledger, since: str) -> set[str]:
    """Return the digests that records after an id, or running runs, refer to."""
    runs = {run.id: run for run in [*_all(ledger.runs, since), *ledger.runs.find(state="running")]}
    named = {digest for run in runs.values() for digest in list_blobs_of_run(run)}
    named |= {digest for step in _all(ledger.steps, since) for digest in list_blobs_of_step(step)}
    return named | {release.package for release in _all(ledger.releases, since)}


def list_blobs_of_run(run: Run) -> Iterator[str]:
    """Iterate over the digests of the blobs of a run's record: its packages and its code."""
    if run.packages:
        yield run.packages
    yield from _digests((run.code, [attempt.code for attempt in run.attempts]))


def list_blobs_of_step(step: StepRun) -> Iterator[str]:
    """Iterate over the digests of the inputs, the outputs and the log of a step."""
    yield from step.inputs.values()
    yield from step.outputs.values()
    if step.log_blob:
        yield step.log_blob


def _digests(value: Any) -> Iterator[str]:
    if isinstance(value, str) and len(value) == 64:
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from _digests(one)
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _digests(one)


def _all(book: Book[T], after: str = "") -> Iterator[T]:
    """Iterate over the records of a book, page by page."""
    while page := book.find(limit=_PAGE, after=after):
        yield from page
        after = page[-1].id  # type: ignore[attr-defined]


class _Groups:
    """Counts blobs by kind and reason."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], tuple[int, int, datetime]] = {}

    def add(self, kind: str, why: str, size: int, born: datetime) -> None:
        count, total, oldest = self._groups.get((kind, why), (0, 0, born))
        self._groups[kind, why] = (count + 1, total + size, min(oldest, born))

    def all(self) -> tuple[Group, ...]:
        """Return the groups, the largest first."""
        found = [
            Group(kind=kind, why=why, count=count, bytes=total, oldest=oldest)
            for (kind, why), (count, total, oldest) in self._groups.items()
        ]
        return tuple(sorted(found, key=lambda group: -group.bytes))
