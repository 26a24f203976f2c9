"""The audit log: a book whose entries form a chain, because each has the hash of the one before it."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tidemill.core.audit import AuditEntry
from tidemill.errors import TidemillError
from tidemill.ledger.book import SqlBook
from tidemill.ledger.decisions import require_reason, to_line

_PAGE = 1_000
_EMPTY: tuple[Any, ...] = ("", None, {}, [])


class StoredEntry(Struct, frozen=True):
    """An entry as it is stored: its JSON, and whether the searched columns beside it have the same values."""

    id: str
    number: str
    body: str
    is_indexed: bool = True


def hash_entry(fields: Mapping[str, Any]) -> str:
    """Return the hash of an entry: the SHA-256 of its canonical JSON.

    That is UTF-8 without spaces, the keys in alphabetical order, without the key `hash` and without the keys of empty
    values, so that a later version can add fields.

    >>> hash_entry({"b": 1, "a": "é", "c": {}, "hash": "…"}) == hashlib.sha256('{"a":"é","b":1}'.encode()).hexdigest()
    True
    """
    content = {name: value for name, value in fields.items() if name != "hash" and value not in _EMPTY}
    return hashlib.sha256(msgspec.json.encode(content, order="sorted")).hexdigest()


class AuditBook(SqlBook[AuditEntry]):
    """The entries of the audit log. It only grows: each entry is linked to the one before it, and none changes."""

    def add(self, record: AuditEntry) -> AuditEntry:
        """Write a new entry at the end of the log, and return it with its number and its hashes.

        Other processes wait until the transaction ends, so that the chain has one end.

        Raises
        ------
        InputError
            if it has no reason.
        """
        return self._append(replace(record, reason=require_reason(to_line(record.reason))))

    def _append(self, record: AuditEntry) -> AuditEntry:
        with self._connections.transaction(durable=True) as connection:
            self._connections.database.exclude_writers(connection, (self.name,))
            return super().add(self._link(record, self.head()))

    def add_all(self, records: Iterable[AuditEntry]) -> None:
        """Write new entries at the end of the log, all or none."""
        with self._connections.transaction(durable=True):
            for record in records:
                self.add(record)

    def change(self, identifier: str, update: Callable[[AuditEntry], AuditEntry]) -> AuditEntry:  # noqa: ARG002
        """Raise an error: an entry never changes."""
        raise TidemillError(f"entry {identifier} of the audit log cannot be changed", "add another entry")

    def load(self, record: AuditEntry) -> AuditEntry:
        """Write an entry of another ledger with its number and hashes; link one that has none."""
        return super().add(record) if record.hash else self._append(record)

    def head(self) -> AuditEntry | None:
        """Return the last entry of the log."""
        last = f"SELECT body FROM {self.name} WHERE number IS NOT NULL ORDER BY number DESC LIMIT 1"
        rows = self._connections.read(last)
        return self._decode(rows[0][0]) if rows else None

    def stored(self) -> Iterator[StoredEntry]:
        """Iterate over the stored entries in the order of the log, also over those that were changed later."""
        unnumbered = f"SELECT {self._stored_columns} FROM {self.name} WHERE number IS NULL ORDER BY id"
        numbered = f"SELECT {self._stored_columns} FROM {self.name} WHERE number > ? ORDER BY number LIMIT {_PAGE}"
        for row in self._connections.read(unnumbered):
            yield self._to_stored_entry(row)
        last = ""
        while rows := self._connections.read(self._statement(numbered), (last,)):
            for row in rows:
                stored = self._to_stored_entry(row)
                yield stored
                last = stored.number

    def _to_stored_entry(self, row: tuple[Any, ...]) -> StoredEntry:
        stored, number = self._to_stored_row(row), row[2 + self._searched.index("number")]
        return StoredEntry(stored.id, number or "", stored.body, stored.fits)

    def _link(self, record: AuditEntry, head: AuditEntry | None) -> AuditEntry:
        number, previous = (head.number + 1, head.hash) if head else (1, "")
        linked = replace(record, number=number, previous=previous, hash="")
        return replace(linked, hash=hash_entry(msgspec.json.decode(self._encode(linked))))
