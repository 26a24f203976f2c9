"""Verifies the audit log: finds entries that were edited, deleted, inserted or moved since they were written."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from tidemill.core.audit import AuditEntry
from tidemill.ledger.audit import StoredEntry, hash_entry


class AuditFault(Struct, frozen=True, kw_only=True):
    """A fault of the audit log, at the entry with this number and id; `number` is 0 if it has none."""

    number: int
    id: str
    problem: str


class AuditReport(Struct, frozen=True, kw_only=True):
    """The result of a verification: the number of entries, the hash of the last one, and the faults."""

    entries: int
    head: str
    faults: tuple[AuditFault, ...]


def verify_entries(stored: Iterable[StoredEntry]) -> AuditReport:
    """Verify the entries of an audit log, in the order of their numbers.

    An entry whose own hash is right but is not the hash in the next entry was replaced completely. That is found at
    the next entry; for the last entry, only a signed head reveals it.
    """
    faults: list[AuditFault] = []
    count, last, head = 0, 0, ""
    for entry in stored:
        count += 1
        fields = _read(entry.body)
        found = list(_find_faults(entry, fields, last, head))
        number = _number(fields)
        faults += (AuditFault(number=number, id=entry.id, problem=problem) for problem in found)
        last, head = max(number, last), str(fields.get("hash", "")) if fields else ""
    return AuditReport(entries=count, head=head, faults=tuple(faults))


def find_hash(stored: Iterable[StoredEntry], number: int) -> str:
    """Return the hash of the entry with a number; empty if there is none."""
    for entry in stored:
        fields = _read(entry.body)
        if fields and _number(fields) == number:
            return str(fields.get("hash", ""))
    return ""


def is_intact(entry: AuditEntry) -> bool:
    """Return whether the content of an entry matches its hash."""
    return entry.hash == hash_entry(msgspec.json.decode(msgspec.json.encode(entry)))


def find_first_fault(entries: Iterable[AuditEntry]) -> str:
    """Return the first fault of the chain of all entries; empty if there is none."""
    ordered = sorted(entries, key=lambda entry: entry.number)
    stored = (StoredEntry(entry.id, f"{entry.number:012d}", msgspec.json.encode(entry).decode()) for entry in ordered)
    faults = verify_entries(stored).faults
    return f"entry {faults[0].number}: {faults[0].problem}" if faults else ""


def read_exported(lines: Iterable[bytes]) -> Iterator[StoredEntry]:
    """Iterate over the entries of an export, which has one JSON object on each line."""
    for line in lines:
        body = line.decode(errors="replace").strip()
        if body:
            fields = _read(body) or {}
            yield StoredEntry(str(fields.get("id", "")), f"{_number(fields):012d}", body)


def _find_faults(entry: StoredEntry, fields: dict[str, Any] | None, last: int, head: str) -> Iterator[str]:
    if fields is None:
        yield "it cannot be read"
        return
    number = _number(fields)
    if fields.get("hash") != hash_entry(fields):
        yield "it was edited: its content does not match its hash"
    if not entry.is_indexed or entry.number != f"{number:012d}" or fields.get("id") != entry.id:
        yield "the columns by which it is searched were edited: they differ from its content"
    if number <= last:
        yield f"it was inserted or moved: its number is {number}, after entry {last}"
    elif number > last + 1:
        missing = f"entry {last + 1} was" if number == last + 2 else f"entries {last + 1} to {number - 1} were"
        yield f"{missing} deleted before it"
    elif fields.get("previous") != head:
        before = f"entry {last}" if last else "the beginning of the log"
        yield f"it does not follow {before}: one of the two was replaced, inserted or edited"


def _read(body: str) -> dict[str, Any] | None:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError:
        return None


def _number(fields: dict[str, Any] | None) -> int:
    number = (fields or {}).get("number")
    return number if isinstance(number, int) and not isinstance(number, bool) and 0 < number < 10**12 else 0
