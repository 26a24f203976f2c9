"""Garbage collection of blobs: plan which blobs to delete, then delete them.

A blob is kept while a root refers to it: the package of a kept release with the artifacts of its run, the artifacts of
a run or step that has not expired, and those of a running run. A new blob is kept too, because a run may refer to it
soon. The records of the ledger are never deleted; the record of an artifact has the time of its collection.

Runs can continue during a collection. First, each blob without a reference since the plan is marked as
`collected` in the ledger, in transactions that exclude other writers. From then on the cache ignores the artifact: a
run computes it again, stores the bytes again, so that they are new, and removes the mark when it commits. Runs that
used the artifact before the mark have a short time to commit. Then the collection deletes the bytes that are still
marked, not new and without a reference, and removes the mark of the others. If it is killed, marked bytes remain: no
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
from tidemill.registry.regimes import list_kept_releases

T = TypeVar("T", bound=Struct)
GRACE = timedelta(hours=1)
_MAX_RUNNING = timedelta(days=7)  # after that time, a run with the state `running` counts as crashed
_SKEW = timedelta(minutes=10)  # the largest difference between the clocks of machines
_BATCH = 100
_PAGE = 1_000
_UNEXPIRED = "its run has not expired"


class Group(Struct, frozen=True, kw_only=True):
    """Blobs of one kind that are deleted or kept for the same reason: number, size, and the time of the oldest."""

    kind: str
    reason: str
    count: int
    bytes: int
    oldest: datetime


class UnneededBlob(Struct, frozen=True):
    """A blob to delete; `is_recorded` is whether the ledger has a record of it."""

    digest: str
    kind: str
    size: int
    is_recorded: bool


class Plan(Struct, frozen=True, kw_only=True):
    """The blobs to delete and to keep; the plan does not cover references after `since` (an id)."""

    to_delete: tuple[Group, ...]
    to_keep: tuple[Group, ...]
    unneeded: tuple[UnneededBlob, ...]
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
    stored = {blob.digest: blob for blob in blobs.list_blobs()}
    running = [run for run in ledger.runs.find(state="running") if _is_running(run, now)]
    since = uuid7(min([now, *(run.started for run in running)]) - _SKEW, 0)
    needed = _find_needed(ledger, retention, now)
    for digest in _list_new_references(ledger, since):
        needed.setdefault(digest, "a new record refers to it")
    kinds = dict(_list_kinds(ledger, blobs, needed))
    to_delete, to_keep, unneeded = _Groups(), _Groups(), []
    for digest, blob in stored.items():
        created = now - timedelta(seconds=blob.age)
        kind = kinds.get(digest, "orphan")
        if digest in needed:
            to_keep.add(kind, needed[digest], blob.size, created)
        elif now - created < grace:
            to_keep.add(kind, "it is new: a run may refer to it soon", blob.size, created)
        elif digest not in kinds and now - created < parse_duration(retention.orphans):
            reason = f"no run refers to it; it is deleted {retention.orphans} after it was stored"
            to_keep.add(kind, reason, blob.size, created)
        else:
            reason = "nothing that is kept refers to it" if digest in kinds else "no run refers to it"
            to_delete.add(kind, reason, blob.size, created)
            unneeded.append(UnneededBlob(digest, kind, blob.size, is_recorded=digest in kinds))
    return Plan(to_delete=to_delete.all(), to_keep=to_keep.all(), unneeded=tuple(unneeded), since=since)


def collect(
    ledger: Ledger, blobs: Blobs, planned: Plan, clock: Clock, *, grace: timedelta = GRACE, pause: float = 5.0
) -> Collected:
    """Delete the blobs of a plan that have no newer reference; after a crash it can be planned and run again.

    If runs are running, it waits for `pause` seconds before it deletes, so that they can commit.
    """
    marked = [blob for batch in _batches(planned.unneeded) for blob in _mark(ledger, batch, planned.since, clock.now())]
    maybe_crash("gc has marked")
    if marked and ledger.runs.find(state="running", limit=1):
        clock.sleep(pause)
    new = {blob.digest for blob in blobs.list_blobs() if blob.age < grace.total_seconds()} if marked else set()
    old = [blob for blob in marked if blob.digest not in new]
    deleted = [blob for batch in _batches(old) for blob in _sweep(ledger, blobs, batch, planned.since)]
    blobs.delete_drafts(GRACE.total_seconds())
    ledger.tidy()
    return Collected(len(deleted), sum(blob.size for blob in deleted), len(planned.unneeded) - len(deleted))


def _batches(unneeded: Sequence[UnneededBlob]) -> Iterator[Sequence[UnneededBlob]]:
    for first in range(0, len(unneeded), _BATCH):
        yield unneeded[first : first + _BATCH]


def _mark(ledger: Ledger, batch: Sequence[UnneededBlob], since: str, now: datetime) -> list[UnneededBlob]:
    with ledger.alone():
        referenced = _list_new_references(ledger, since)
        marked = [blob for blob in batch if blob.digest not in referenced and _is_marked(ledger, blob, now)]
        maybe_crash("gc marks")
    return marked


def _is_marked(ledger: Ledger, blob: UnneededBlob, now: datetime) -> bool:
    """Mark a blob as collected; return whether its record has the mark."""
    try:
        ledger.artifacts.add(Artifact(id=blob.digest, kind=blob.kind, size=blob.size, collected=now))
    except Conflict:
        return bool(
            ledger.artifacts.change(blob.digest, lambda artifact: _mark_artifact(artifact, blob, now)).collected
        )
    return True


def _mark_artifact(artifact: Artifact, blob: UnneededBlob, now: datetime) -> Artifact:
    # If the record is newer than the plan, a run has written it.
    return replace(artifact, collected=now) if blob.is_recorded and not artifact.collected else artifact


def _sweep(ledger: Ledger, blobs: Blobs, marked: Sequence[UnneededBlob], since: str) -> list[UnneededBlob]:
    deleted = []
    with ledger.alone():
        referenced = _list_new_references(ledger, since)
        for blob in marked:
            if blob.digest in referenced:
                ledger.artifacts.change(blob.digest, lambda artifact: replace(artifact, collected=None))
            elif ledger.artifacts.get(blob.digest).collected:
                blobs.delete(blob.digest)
                deleted.append(blob)
                maybe_crash("gc has deleted")
    return deleted


def _find_needed(ledger: Ledger, retention: Retention, now: datetime) -> dict[str, str]:
    """Return every digest that a root refers to, with the reason."""
    needed: dict[str, str] = {}
    kept = _list_kept_releases(ledger, retention, now)
    lineage = {release.run for release in kept if release.run}
    kept_runs: dict[str, str] = {}
    for release in kept:
        needed |= dict.fromkeys(list_blobs_of_release(release), "a release needs it")
    for build in ledger.builds.find(state="passed"):
        needed |= dict.fromkeys(build.artifacts.values(), "a build needs it")
    for run in _all(ledger.runs):
        if reason := "a release needs it" if run.id in lineage else _find_reason(run, retention, now):
            kept_runs[run.id] = reason
            for digest in list_blobs_of_run(run):
                needed.setdefault(digest, reason)
    expired: defaultdict[str, set[str]] = defaultdict(set)
    for step in _all(ledger.steps):
        reason = kept_runs.get(step.run, "")
        if step.expires is not None and reason == _UNEXPIRED:
            reason = ""
            if step.expires <= now:
                expired[step.run].update(step.outputs.values())
        if step.expires is not None and step.expires > now:
            reason = reason or "its step has not expired"
        # An expired output is not kept because a later step of the same run used it: both are computed again.
        inputs = set(step.inputs.values()) - expired[step.run] if step.run in kept_runs else set()
        outputs = set(step.outputs.values()) if reason else set()
        log = {step.log_blob} if step.log_blob and step.run in kept_runs else set()
        for digest in outputs | inputs | log:
            needed.setdefault(digest, reason or _UNEXPIRED)
    return needed


def _find_reason(run: Run, retention: Retention, now: datetime) -> str:
    """Return the reason to keep the artifacts of a run; empty if its retention has expired."""
    if run.state == "running" and _is_running(run, now):
        return "its run is running"
    return _UNEXPIRED if (run.ended or run.started) + parse_duration(retention.runs) > now else ""


def _is_running(run: Run, now: datetime) -> bool:
    return max([run.started, *(attempt.started for attempt in run.attempts)]) > now - _MAX_RUNNING


def _list_kept_releases(ledger: Ledger, retention: Retention, now: datetime) -> list[Release]:
    """Return all releases; with a limit, those in production, the last champions, those of regimes and the new ones."""
    releases = list(_all(ledger.releases))
    if retention.releases is None:
        return releases
    versions: defaultdict[tuple[str, str], list[Route]] = defaultdict(list)
    for route in _all(ledger.routes):
        versions[route.environment, route.model].append(route)
    labels: set[str] = set()
    for (environment, model), routes in versions.items():
        labels |= list_kept_releases(ledger, environment, model)
        routes.sort(key=lambda route: -route.version)
        serving = {arm.release for arm in routes[0].arms}
        champions = dict.fromkeys(arm.release for route in routes for arm in route.arms if arm.role == "champion")
        labels |= serving | set([label for label in champions if label not in serving][: retention.releases])
    expiry = now - parse_duration(retention.runs)
    return [release for release in releases if release.label in labels or release.created > expiry]


def _list_kinds(ledger: Ledger, blobs: Blobs, needed: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Iterate over the kind of every blob in the ledger; members of needed artifacts become needed, too."""
    for run in _all(ledger.runs):
        yield from ((digest, "environment") for digest in list_blobs_of_run(run))
    for step in _all(ledger.steps):
        if step.log_blob:
            yield step.log_blob, "log"
    for release in _all(ledger.releases):
        yield release.package, "model"
        if release.signature:
            yield release.signature, "signature"
    for build in _all(ledger.builds):
        yield from ((digest, "build") for digest in build.artifacts.values())
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


def _list_new_references(ledger: Ledger, since: str) -> set[str]:
    """Return the digests that records after an id, or running runs, refer to."""
    runs = {run.id: run for run in [*_all(ledger.runs, since), *ledger.runs.find(state="running")]}
    references = {digest for run in runs.values() for digest in list_blobs_of_run(run)}
    references |= {digest for step in _all(ledger.steps, since) for digest in list_blobs_of_step(step)}
    references |= {digest for build in _all(ledger.builds, since) for digest in build.artifacts.values()}
    return references | {
        digest for release in _all(ledger.releases, since) for digest in list_blobs_of_release(release)
    }


def list_blobs_of_release(release: Release) -> tuple[str, ...]:
    """Return the digests of the package of a release and of its signature."""
    return (release.package, release.signature) if release.signature else (release.package,)


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
        for item in value.values():
            yield from _digests(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _digests(item)


def _all(book: Book[T], after: str = "") -> Iterator[T]:
    """Iterate over the records of a book, page by page."""
    while page := book.find(limit=_PAGE, after=after):
        yield from page
        after = page[-1].id  # type: ignore[attr-defined]


class _Groups:
    """Counts blobs by kind and reason."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], tuple[int, int, datetime]] = {}

    def add(self, kind: str, reason: str, size: int, created: datetime) -> None:
        count, total, oldest = self._groups.get((kind, reason), (0, 0, created))
        self._groups[kind, reason] = (count + 1, total + size, min(oldest, created))

    def all(self) -> tuple[Group, ...]:
        """Return the groups, the largest first."""
        groups = [
            Group(kind=kind, reason=reason, count=count, bytes=total, oldest=oldest)
            for (kind, reason), (count, total, oldest) in self._groups.items()
        ]
        return tuple(sorted(groups, key=lambda group: -group.bytes))
