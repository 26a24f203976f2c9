"""Withdrawals: a person takes the rows of a batch back, or restores them; the audit log keeps both."""

from contextlib import suppress

import polars as pl
from msgspec import Struct

from tidemill.clock import Clock
from tidemill.core.audit import AuditEntry
from tidemill.core.columns import ARRIVED, BATCH, PATH
from tidemill.core.policy import Policy
from tidemill.core.release import Release
from tidemill.core.resources import Board, Books, BooksReader, TableReader
from tidemill.data.superseded import drop_superseded_batches
from tidemill.errors import InputError, TidemillError
from tidemill.ledger.batches import RESTORED, WITHDREW, BatchRecord, find_withdrawn, list_batches
from tidemill.ledger.events import record_event
from tidemill.ledger.releases import find_release

__all__ = ["find_withdrawn"]

BATCH_WITHDRAWN, BATCH_RESTORED = "batch.withdrawn", "batch.restored"


class BatchLineage(Struct, frozen=True, kw_only=True):
    """The releases that learned from a batch, those of them that serve now, and an earlier champion that did not."""

    releases: list[str]
    serving: list[str]
    clean_champion: str = ""


def find_batch(books: BooksReader, environment: str, text: str) -> BatchRecord:
    """Return a batch by its id, the beginning of its id, or its path; of several with a path, the current one.

    A batch that was never checked is found while it is withdrawn.

    Raises
    ------
    InputError
        if there is none, or more than one.
    """
    records = list_batches(books, environment)
    checked = {record.id for record in records}
    withdrawn = find_withdrawn(books, environment)
    records += [_to_record(batch, entry) for batch, entry in withdrawn.items() if batch not in checked]
    exact = [record for record in records if record.id == text]
    named = [record for record in records if text in (record.path, record.path.rpartition("/")[2])]
    current = [record for record in named if record.state != "replaced"]
    begun = [record for record in records if record.id.startswith(text)]
    for found in (exact, current, named, begun):
        if len(found) == 1:
            return found[0]
        if found:
            raise InputError(
                f"{text!r} names {len(found)} batches", f"use an id: {', '.join(record.id for record in found[:5])}"
            )
    raise InputError(f"no batch is called {text!r}", "list them: `tidemill data batches`")


def _to_record(batch: str, entry: AuditEntry) -> BatchRecord:
    return BatchRecord(
        id=batch,
        source=str(entry.detail["source"]),
        path=str(entry.detail["path"]),
        state="withdrawn",
        rows=int(entry.detail["rows"]),
        time=entry.time,
        reason=entry.reason,
        verdict="",
    )


def withdraw(
    books: Books, clock: Clock, record: BatchRecord, *, environment: str, actor: str, reason: str, undo: bool = False
) -> AuditEntry:
    """Withdraw a batch, or restore it (`undo`), and emit an event; the rows stay in the table.

    Raises
    ------
    InputError
        if the batch is in that state already.
    """
    is_withdrawn = record.id in find_withdrawn(books, environment)
    if is_withdrawn != undo:
        problem = "is not withdrawn" if undo else "is withdrawn already"
        raise InputError(f"batch {record.id} {problem}", "see its state: `tidemill data batches`")
    entry = AuditEntry(
        id=clock.mint(),
        actor=actor,
        action=RESTORED if undo else WITHDREW,
        subject=record.id,
        time=clock.now(),
        reason=reason,
        environment=environment,
        detail={"source": record.source, "path": record.path, "rows": record.rows},
    )
    payload = {"batch": record.id, "path": record.path, "reason": f"{entry.action}: {record.path}"}
    with books.transaction(durable=True):
        books.audit.add(entry)
        kind = BATCH_RESTORED if undo else BATCH_WITHDRAWN
        record_event(books, clock, kind, record.source, environment=environment, cause=entry.id, payload=payload)
    return entry


def trace_batch(
    books: BooksReader, board: Board, tables: TableReader, policy: Policy, record: BatchRecord, views: dict[str, str]
) -> BatchLineage:
    """Return the releases that learned from a batch: by their version of the table, or by a feature view of its source.

    `views` are the sources of the feature views, by name. A release learned from a batch by a view if it was created
    after the batch was accepted.
    """
    learned: list[Release] = []
    others: list[Release] = []
    for model in policy.models.values():
        reads_view = any(views.get(view) == record.source for view in model.inputs.views)
        for release in books.releases.find(name=model.name):
            by_table = release.data.get("table") == record.source and _has_batch(tables, release, record)
            by_view = reads_view and record.time is not None and release.created >= record.time
            (learned if by_table or by_view else others).append(release)
    routes = board.routes().values()
    serving = {arm.release for route in routes for arm in route.arms}
    champions = {arm.release for route in books.routes.find() for arm in route.arms if arm.role == "champion"}
    clean = [release for release in others if release.label in champions]
    return BatchLineage(
        releases=[release.label for release in learned],
        serving=[release.label for release in learned if release.label in serving],
        clean_champion=max(clean, key=lambda release: release.version).label if clean else "",
    )


def list_learned_withdrawn(books: BooksReader, tables: TableReader, environment: str, label: str) -> list[str]:
    """Return the paths of the withdrawn batches whose rows a release learned from its table."""
    withdrawn = find_withdrawn(books, environment)
    if not withdrawn:
        return []
    release = find_release(books, label)
    checked = {record.id: record for record in list_batches(books, environment)}
    records = [checked.get(batch) or _to_record(batch, entry) for batch, entry in withdrawn.items()]
    own = [record for record in records if record.source == release.data.get("table")]
    return [record.path for record in own if _has_batch(tables, release, record)]


def _has_batch(tables: TableReader, release: Release, record: BatchRecord) -> bool:
    """Return whether the rows of a batch were current in the version of the table that a release learned from."""
    if record.id in release.data.get("withdrawn", ()):
        return False
    try:
        rows = tables.read(record.source, int(release.data.get("version", -1)), [BATCH, PATH, ARRIVED])
    except (TidemillError, pl.exceptions.PolarsError):  # the version was erased, or is older than these columns
        return record.time is not None and release.created >= record.time
    with suppress(pl.exceptions.PolarsError):
        rows = drop_superseded_batches(rows.unique())
    return bool((rows[BATCH] == record.id).any())
