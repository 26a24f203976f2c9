"""Seals: sums of hashes that reveal records which were edited, deleted or inserted by another program than Tidemill.

Each transaction adds one row for each book that it changed to the table `seals`: how much it changed the sum of the
hashes of the book's records, modulo 2**256. So the sum of these rows equals the sum of the hashes of all records, in
whatever order processes write (the additive multiset hash of Clarke et al. 2003, "Incremental Multiset Hash Functions
and Their Application to Memory Integrity Checking").

Whoever can write the ledger and knows this can write matching seals too; a backup elsewhere, and the signed heads of
the audit log, reveal that.
"""

import hashlib
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from msgspec import Struct

from tidemill.ledger.database import Database
from tidemill.ledger.index import EMPTY_ENTRY, IndexEntry

_MODULUS = 1 << 256
_PAGE = 1_000
_INSERT = "INSERT INTO seals (id, book, delta) VALUES (?, ?, ?)"


class StoredRow(Struct, frozen=True):
    """A stored record: its body, whether the columns beside it fit it, and what the search index must have for it."""

    id: str
    revision: int
    body: str
    fits: bool
    entry: IndexEntry = EMPTY_ENTRY


class StoredBook(Protocol):
    """A book whose stored rows can be read."""

    @property
    def name(self) -> str: ...

    def iterate_stored(self, connection: Any) -> Iterator[StoredRow]: ...


class SealFault(Struct, frozen=True, kw_only=True):
    """A difference between the records of a book and what Tidemill wrote; `id` is empty if no record can be named."""

    book: str
    id: str
    problem: str


def define_seals(database: Database) -> Iterator[str]:
    """Iterate over the statements that create the table."""
    identifier, book, delta = (database.text_type(length) for length in (80, 16, 64))
    columns = f"id {identifier} NOT NULL, book {book} NOT NULL, delta {delta} NOT NULL"
    yield f"CREATE TABLE seals ({columns}, PRIMARY KEY (id))"


def hash_record(book: str, identifier: str, revision: int, body: str) -> int:
    """Return the hash of a record as a number below 2**256."""
    content = f"{book}\n{identifier}\n{revision}\n{body}".encode()
    return int.from_bytes(hashlib.sha256(content).digest())


def write_seals(database: Database, connection: Any, changes: Mapping[str, int]) -> None:
    """Write how much a transaction changed the sums of books."""
    rows = [(secrets.token_hex(16), book, f"{change % _MODULUS:064x}") for book, change in changes.items()]
    if rows:
        connection.cursor().executemany(database.statement(_INSERT), rows)


def read_sums(connection: Any) -> dict[str, int]:
    """Return the sum of each book, by the seals; a seal that is no number counts as a wrong sum."""
    sums: dict[str, int] = {}
    for book, delta in connection.execute("SELECT book, delta FROM seals").fetchall():
        try:
            change = int(delta, 16)
        except ValueError:
            change = 1
        sums[book] = (sums.get(book, 0) + change) % _MODULUS
    return sums


def add_records(connection: Any, database: Database, book: str) -> int:
    """Return the sum of the hashes of the records of a book."""
    page = database.statement(f"SELECT id, revision, body FROM {book} WHERE id > ? ORDER BY id LIMIT {_PAGE}")
    total, last = 0, ""
    while rows := connection.execute(page, (last,)).fetchall():
        total += sum(hash_record(book, *row) for row in rows)
        last = rows[-1][0]
    return total % _MODULUS


def find_faults(connection: Any, books: Sequence[StoredBook]) -> Iterator[SealFault]:
    """Iterate over the differences between the records of books, their seals and the search index, in a snapshot."""
    sums, indexed = read_sums(connection), _read_index(connection)
    for name in sorted({*sums, *indexed} - {book.name for book in books}):
        yield SealFault(book=name, id="", problem="there is no book of this name")
    for book in books:
        total = index = 0
        for row in book.iterate_stored(connection):
            total += hash_record(book.name, row.id, row.revision, row.body)
            index += _hash_entry(row.id, row.entry)
            if not row.fits:
                problem = "it was edited or damaged: the columns by which it is searched differ from its content"
                yield SealFault(book=book.name, id=row.id, problem=problem)
        if total % _MODULUS != sums.get(book.name, 0):
            problem = "records were edited, deleted, inserted or damaged since they were written"
            yield SealFault(book=book.name, id="", problem=problem)
        elif index % _MODULUS != indexed.get(book.name, 0):
            yield SealFault(book=book.name, id="", problem="its search index was edited by another program")


def _read_index(connection: Any) -> dict[str, int]:
    """Return the sum of the hashes of the entries of each book in the search index."""
    sums: dict[str, int] = {}
    for query in ("SELECT book, term, id, '' FROM terms", "SELECT book, name, id, value FROM measures"):
        for book, *entry in connection.execute(query):
            sums[book] = (sums.get(book, 0) + _hash_values(*entry)) % _MODULUS
    return sums


def _hash_entry(identifier: str, entry: IndexEntry) -> int:
    terms = sum(_hash_values(term, identifier, "") for term in entry.terms)
    return terms + sum(_hash_values(name, identifier, float(value)) for name, value in entry.measures.items())


def _hash_values(*values: object) -> int:
    return int.from_bytes(hashlib.sha256(repr(values).encode()).digest())


def seal_all(connection: Any, database: Database, books: Iterable[str]) -> None:
    """Write the seals of records that were written without them."""
    connection.execute("DELETE FROM seals")
    write_seals(database, connection, {book: add_records(connection, database, book) for book in books})


def fold_seals(connection: Any, database: Database) -> None:
    """Replace the seals by one for each book, inside a transaction; seals that others write meanwhile stay."""
    rows = connection.execute("SELECT id, book, delta FROM seals").fetchall()
    if len(rows) < _PAGE:
        return
    sums: dict[str, int] = {}
    for _, book, delta in rows:
        try:
            sums[book] = sums.get(book, 0) + int(delta, 16)
        except ValueError:  # somebody edited it: it stays as the proof
            return
    connection.cursor().executemany(database.statement("DELETE FROM seals WHERE id = ?"), [(row[0],) for row in rows])
    write_seals(database, connection, sums)
