"""Collection of blobs that nothing needs any more: first a plan, then, where it is wanted, the deed.

A blob stays as long as a root names it: the package of a kept release and all that its run left, what an unexpired run
or step gave, a run that is at work. A young blob stays too, since a run may be about to name it. The ledger's facts
stay for ever; the record of an artifact says when its bytes were collected.

Why a run at the same moment is safe: first, batch by batch, what nothing has named since the plan began is marked
`collected` in the ledger (bytes without a record get one for that), in transactions that exclude other writers. From
then on the cache does not take it: a run makes it again, puts the bytes anew, which makes them young, and takes the
mark off when it commits. Runs that had found it before the mark get a moment to commit. Then the bytes are deleted of
what is still marked, not young, and not named by then; what is named loses its mark. Killed in between, bytes are
marked and there: nobody takes them, and the next collection deletes them. Bytes that are put anew in the very instant
between the look at their age and their deletion are found missing by the next run that wants them, and made again.
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
_AT_WORK = timedelta(days=7)  # a run that says for longer that it is at work is not
_SKEW = timedelta(minutes=10)  # between the clocks of machines
_BATCH = 100
_PAGE = 1_000
_UNEXPIRED = "its run is not expired"


class Group(Struct, frozen=True, kw_only=True):
    """Blobs of one kind that go, or stay, for the same reason: how many, how large, and since when the oldest is."""

    kind: str
    why: str
    count: int
    bytes: int
    oldest: datetime


class Doomed(Struct, frozen=True):
    """A blob that nothing needs; `known` is whether the ledger has a record of it."""

    digest: str
    kind: str
    size: int
    known: bool


class Plan(Struct, frozen=True, kw_only=True):
    """What would go and what stays; what was named later than `since` (an id) was not seen."""

    goes: tuple[Group, ...]
    stays: tuple[Group, ...]
    doomed: tuple[Doomed, ...]
    since: str


class Collected(Struct, frozen=True):
    """What a collection came to; `spared` is what a run has named since the plan."""

    count: int
    bytes: int
    spared: int


def plan(ledger: Ledger, blobs: Blobs, retention: Retention, now: datetime, *, grace: timedelta = GRACE) -> Plan:
    """What nothing needs any more, by kind, and why the rest stays; nothing is changed.

    Bytes that were put within `grace` are spared: a run that is to name them may not have come to it yet.
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
    """Delete what a plan says, but for what was named since; killed at any point, it can be planned and done again.

    Where runs are at work, it lets them commit for `pause` seconds before anything is deleted.
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
    # Where there was no record at the plan and there is one now, somebody has made it since.
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
    """Every digest that a root names, with the reason; a regime's artifacts will be roots here, too."""
    needed: dict[str, str] = {}
    kept = _kept_releases(ledger, retention, now)
    lineage = {release.run for release in kept if release.run}
    alive: dict[str, str] = {}
    for release in kept:
        needed[release.package] = "a release needs it"
    for run in _all(ledger.runs):
        if why := "a release needs it" if run.id in lineage else _why_kept(run, retention, now):
            alive[run.id] = why
            for digest in named_by_run(run):
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
        # What a later step of the same run took is not kept for that alone: it is made again with it.
        taken = set(step.inputs.values()) - lapsed[step.run] if step.run in alive else set()
        given = set(step.outputs.values()) if why else set()
        log = {step.log_blob} if step.log_blob and step.run in alive else set()
        for digest in given | taken | log:
            needed.setdefault(digest, why or _UNEXPIRED)
    return needed


def _why_kept(run: Run, retention: Retention, now: datetime) -> str:
    if run.state == "running" and _is_at_work(run, now):
        return "its run is at work"
    return _UNEXPIRED if (run.ended or run.started) + parse_duration(retention.runs) > now else ""


def _is_at_work(run: Run, now: datetime) -> bool:
    return max([run.started, *(attempt.started for attempt in run.attempts)]) > now - _AT_WORK


def _kept_releases(ledger: Ledger, retention: Retention, now: datetime) -> list[Release]:
    """All releases, or those that answer, the last champions before them, and those that may still be routed."""
    releases = list(_all(ledger.releases))
    if retention.releases is None:
        return releases
    versions: defaultdict[tuple[str, str], list[Route]] = defaultdict(list)
    for route in _all(ledger.routes):
        versions[route.environment, route.model].append(route)
    labels: set[str] = set()
    for routes in versions.values():
        routes.sort(key=lambda route: -route.version)
        answering = {arm.release for arm in routes[0].arms}
        champions = dict.fromkeys(arm.release for route in routes for arm in route.arms if arm.role == "champion")
        labels |= answering | set([label for label in champions if label not in answering][: retention.releases])
    young = now - parse_duration(retention.runs)
    return [release for release in releases if release.label in labels or release.created > young]


def _kinds(ledger: Ledger, blobs: Blobs, needed: dict[str, str]) -> Iterator[tuple[str, str]]:
    """What every blob is that the ledger names; members of artifacts that are needed become needed, too."""
    for run in _all(ledger.runs):
        yield from ((digest, "environment") for digest in named_by_run(run))
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
    """What was named since an id was minted, or by runs that are at work."""
    runs = {run.id: run for run in [*_all(ledger.runs, since), *ledger.runs.find(state="running")]}
    named = {digest for run in runs.values() for digest in named_by_run(run)}
    named |= {digest for step in _all(ledger.steps, since) for digest in named_by_step(step)}
    return named | {release.package for release in _all(ledger.releases, since)}


def named_by_run(run: Run) -> Iterator[str]:
    """The digests of blobs that a run's record names: its packages, and the state of its code."""
    if run.packages:
        yield run.packages
    yield from _digests((run.code, [attempt.code for attempt in run.attempts]))


def named_by_step(step: StepRun) -> Iterator[str]:
    """The digests of what a step took and gave, and of its log."""
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
    """The records of a book, page by page."""
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
        """The groups, the largest first."""
        found = [
            Group(kind=kind, why=why, count=count, bytes=total, oldest=oldest)
            for (kind, why), (count, total, oldest) in self._groups.items()
        ]
        return tuple(sorted(found, key=lambda group: -group.bytes))
