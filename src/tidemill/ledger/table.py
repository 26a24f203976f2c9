"""Tables: the definition of a table of records, and of the tables of the search index."""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from tidemill.ledger.database import Database

_LONGEST = 200
INDEX_TABLES = ("terms", "measures")


class Table(Struct, frozen=True):
    """A table of records: an index for each column of `indexed`, and the `unique` keys."""

    name: str
    indexed: tuple[str, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()

    @property
    def searched(self) -> tuple[str, ...]:
        """Return the searched columns, in the order in which they are stored."""
        return tuple(sorted({*self.indexed, *(column for key in self.unique for column in key)}))

    def definition(self, database: Database) -> Iterator[str]:
        """Iterate over the statements that create the table."""
        columns = [
            f"id {database.text_type(80)} NOT NULL",
            "revision INTEGER NOT NULL",
            *(f"{quote(column)} {database.text_type(_LONGEST)}" for column in self.searched),
            "body TEXT NOT NULL",
            "words TEXT DEFAULT '' NOT NULL",
            "PRIMARY KEY (id)",
            *(f"CONSTRAINT uq_{self.name}_{'_'.join(key)} UNIQUE ({_quote_all(key)})" for key in self.unique),
        ]
        yield f"CREATE TABLE {self.name} ({', '.join(columns)})"
        for column in self.indexed:
            yield f"CREATE INDEX ix_{self.name}_{column} ON {self.name} ({quote(column)}, id)"


def index_definition(database: Database) -> Iterator[str]:
    """Iterate over the statements that create the search index: terms (words and links), and measures."""
    book, name, identifier = (database.text_type(length) for length in (16, _LONGEST, 80))
    yield (
        f"CREATE TABLE terms (book {book} NOT NULL, term {name} NOT NULL, id {identifier} NOT NULL,"
        f" PRIMARY KEY (book, term, id)){database.table_option}"
    )
    yield (
        f"CREATE TABLE measures (book {book} NOT NULL, name {name} NOT NULL, id {identifier} NOT NULL,"
        f" value DOUBLE PRECISION NOT NULL, PRIMARY KEY (book, name, id)){database.table_option}"
    )
    yield "CREATE INDEX ix_measures_value ON measures (book, name, value, id)"


def quote(name: str) -> str:
    """Quote the name of a column, which can be an SQL keyword."""
    return f'"{name}"'


def _quote_all(names: Iterable[str]) -> str:
    return ", ".join(map(quote, names))


def to_searchable(value: Any) -> str | None:
    """Convert a value to the text of its searched column, which sorts like the values."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, int):
        return f"{value:012d}"
    return shorten(str(value))


def shorten(text: str) -> str:
    """Shorten a text to the length of a column; the end of a long text is a digest."""
    if len(text) <= _LONGEST:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return text[: _LONGEST - len(digest)] + digest
