"""Tables: where the records of one noun are, and the index over the words, links and measures of all of them."""

import hashlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from tidemill.ledger.database import Database

_LONGEST = 200
INDEX_TABLES = ("terms", "measures")


class Table(Struct, frozen=True):
    """The table of a noun: an index, newest first, for each column of `indexed`, and the `unique` keys."""

    name: str
    indexed: tuple[str, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()

    @property
    def searched(self) -> tuple[str, ...]:
        """The columns that are searched, in the order in which they are stored."""
        return tuple(sorted({*self.indexed, *(column for key in self.unique for column in key)}))

    def definition(self, database: Database) -> Iterator[str]:
        """The statements that create it."""
        columns = [
            f"id {database.text(80)} NOT NULL",
            "revision INTEGER NOT NULL",
            *(f"{quoted(column)} {database.text(_LONGEST)}" for column in self.searched),
            "body TEXT NOT NULL",
            "words TEXT DEFAULT '' NOT NULL",
            "PRIMARY KEY (id)",
            *(f"CONSTRAINT uq_{self.name}_{'_'.join(key)} UNIQUE ({_listed(key)})" for key in self.unique),
        ]
        yield f"CREATE TABLE {self.name} ({', '.join(columns)})"
        for column in self.indexed:
            yield f"CREATE INDEX ix_{self.name}_{column} ON {self.name} ({quoted(column)}, id)"


def index_definition(database: Database) -> Iterator[str]:
    """The statements that create the index over all tables: terms (words and links), and measures."""
    book, name, identifier = (database.text(length) for length in (16, _LONGEST, 80))
    yield (
        f"CREATE TABLE terms (book {book} NOT NULL, term {name} NOT NULL, id {identifier} NOT NULL,"
        f" PRIMARY KEY (book, term, id)){database.by_key}"
    )
    yield (
        f"CREATE TABLE measures (book {book} NOT NULL, name {name} NOT NULL, id {identifier} NOT NULL,"
        f" value DOUBLE PRECISION NOT NULL, PRIMARY KEY (book, name, id)){database.by_key}"
    )
    yield "CREATE INDEX ix_measures_value ON measures (book, name, value, id)"


def quoted(name: str) -> str:
    """A column's name as SQL takes it, be it a keyword."""
    return f'"{name}"'


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(quoted, names))


def searchable(value: Any) -> str | None:
    """A value as its searched column holds it: text that sorts as the values do."""
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, int):
        return f"{value:012d}"
    return shortened(str(value))


def shortened(text: str) -> str:
    """A text as short as a column is: the end of a long one is a digest."""
    if len(text) <= _LONGEST:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return text[: _LONGEST - len(digest)] + digest
