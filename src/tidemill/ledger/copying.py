"""Copies of the books as JSON lines, which any kind of database can load."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import msgspec

from tidemill.ledger.book import SqlBook
from tidemill.ledger.database import Database, open_connection
from tidemill.ledger.migrations.m0003_facts import upgrade_record

_PAGE = 1_000


def export_tables(database: Database, tables: Sequence[str]) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Iterate over the tables with their records as JSON lines, all from one snapshot."""
    with open_connection(database, "cannot be read") as connection:
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


def load_book(book: SqlBook[Any], lines: Iterable[bytes], update: Callable[[Any], Any]) -> int:
    """Add records to an empty book, each changed by `update`; return the number of records."""
    count = 0
    for line in lines:
        record = upgrade_record(book.name, msgspec.json.decode(line))  # an earlier version may have written it
        book.load(update(msgspec.convert(record, book.record_type)))
        count += 1
    return count
