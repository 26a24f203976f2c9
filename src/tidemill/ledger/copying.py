"""Copies of the books: JSON lines that any database can be filled from."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from tidemill.ledger.book import SqlBook
from tidemill.ledger.database import Database, connected
from tidemill.ledger.migrations.m0003_facts import upgraded

_PAGE = 1_000


def exported(database: Database, tables: Sequence[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Each table with its records as JSON lines, all as of one moment."""
    with connected(database, "cannot be read") as connection:
        database.begin_snapshot(connection)
        for table in tables:
            yield table, _lines(database, connection, table)


def _lines(database: Database, connection: Any, table: str) -> Iterator[bytes]:
    page = database.statement(f"SELECT id, body FROM {table} WHERE id > ? ORDER BY id LIMIT {_PAGE}")
    last = ""
    while rows := connection.execute(page, (last,)).fetchall():
        for _, body in rows:
            yield body.encode() + b"\n"
        last = rows[-1][0]


def loaded(book: SqlBook[Any], lines: Iterable[bytes], update: Callable[[Any], Any]) -> int:
    """Add records to an empty book, each as `update` returns it; their number."""
    count = 0
    for line in lines:
        record = upgraded(book.name, msgspec.json.decode(line))  # an earlier version may have written it
        book.add(update(msgspec.convert(record, book.noun)))
        count += 1
    return count
