"""The states of batches in an environment, from the verdicts of the schema check and the decisions of people."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from tidemill.core.audit import AuditEntry
from tidemill.core.check import SchemaEvidence, Verdict
from tidemill.core.resources import BooksReader

_MAX_DECISIONS = 10_000
WITHDREW, RESTORED = "withdrew a batch", "restored a batch"
BatchState = Literal["accepted", "stopped", "withdrawn", "replaced"]


class BatchRecord(Struct, frozen=True, kw_only=True):
    """A batch with its state: an accepted or stopped one is `replaced` if a newer batch has its path.

    `reason` is that of the latest verdict, or of the person who withdrew it. A batch that is not `readable` cannot be
    accepted.
    """

    id: str
    source: str
    path: str
    state: BatchState
    rows: int
    time: datetime | None
    reason: str
    verdict: str
    readable: bool = True


def split_batch_id(identifier: str) -> tuple[str, str]:
    """Return the source and the name of a batch.

    >>> split_batch_id("rows/2026/june.csv@5c37fee7621e0f66+1")
    ('rows', '2026/june.csv')
    """
    source, _, name = identifier.partition("/")
    return source, name.rpartition("@")[0] or name


def find_withdrawn(books: BooksReader, environment: str) -> dict[str, AuditEntry]:
    """Return the decisions that withdrew batches and are in force, by the id of the batch."""
    entries = [
        entry
        for action in (WITHDREW, RESTORED)
        for entry in books.audit.find(action=action, newest=True, limit=_MAX_DECISIONS)
        if entry.environment == environment
    ]
    latest = {entry.subject: entry for entry in sorted(entries, key=lambda entry: entry.id)}
    return {batch: entry for batch, entry in latest.items() if entry.action == WITHDREW}


def list_batches(books: BooksReader, environment: str) -> list[BatchRecord]:
    """Return the batches that were checked in an environment, oldest first by their latest verdict."""
    verdicts = books.verdicts.find(check="schema", environment=environment)
    withdrawn = find_withdrawn(books, environment)
    latest = {verdict.subject: verdict for verdict in verdicts}
    newest = {split_batch_id(verdict.subject): verdict.subject for verdict in latest.values()}
    records = []
    for identifier, verdict in latest.items():
        name = split_batch_id(identifier)
        entry = withdrawn.get(identifier)
        state: BatchState = "stopped" if verdict.stops else "accepted"
        if newest[name] != identifier and newest[name] not in withdrawn:
            state = "replaced"
        records.append(_to_record(identifier, verdict, entry, "withdrawn" if entry else state))
    return records


def list_stopped(books: BooksReader, environment: str) -> list[BatchRecord]:
    """Return the batches that are stopped: neither accepted, nor replaced, nor withdrawn; it reads only these."""
    scope = {"check": "schema", "environment": environment}
    accepted = books.verdicts.values("subject", action="proceed", **scope)
    stopped = books.verdicts.values("subject", action="stop", **scope) - accepted
    if not stopped:
        return []
    withdrawn = find_withdrawn(books, environment)
    same_name: dict[tuple[str, str], set[str]] = {}
    for identifier in (stopped | accepted) - withdrawn.keys():
        same_name.setdefault(split_batch_id(identifier), set()).add(identifier)
    records = []
    for identifiers in same_name.values():
        if not identifiers & stopped:
            continue
        latest = [
            verdict
            for identifier in identifiers
            for verdict in books.verdicts.find(
                subject=identifier, newest=True, limit=1, check="schema", environment=environment
            )
        ]
        newest = max(latest, key=lambda verdict: verdict.id)
        if newest.subject in stopped:
            records.append(_to_record(newest.subject, newest, None, "stopped"))
    return sorted(records, key=lambda record: record.verdict)


def _to_record(identifier: str, verdict: Verdict, entry: AuditEntry | None, state: BatchState) -> BatchRecord:
    source, name = split_batch_id(identifier)
    evidence = verdict.read(SchemaEvidence)
    return BatchRecord(
        id=identifier,
        source=source,
        path=evidence.path or name,
        state=state,
        rows=evidence.rows,
        time=verdict.time,
        reason=verdict.reason if entry is None else f"{entry.action} by {entry.actor}: {entry.reason or 'no reason'}",
        verdict=verdict.id,
        readable=evidence.is_readable,
    )
