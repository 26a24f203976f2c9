"""Table: where the records of one noun are: its id, the columns that are searched, and the whole as JSON."""

import hashlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

_LONGEST = 200


class Table(Struct, frozen=True):
    """The table of a noun: an index, newest first, for each column of `indexed`, and the `unique` keys."""

    name: str
    indexed: tuple[str, ...] = ()
    unique: tuple[tuple[str, ...], ...] = ()

    @property
    def searched(self) -> tuple[str, ...]:
        """The columns that are searched, in the order in which they are stored."""
        return tuple(sorted({*self.indexed, *(column for key in self.unique for column in key)}))

    def definition(self) -> Iterator[str]:
        """The statements that create it."""
        columns = [
            "id VARCHAR(80) NOT NULL",
            "revision INTEGER NOT NULL",
            *(f'"{column}" VARCHAR({_LONGEST})' for column in self.searched),
            "body TEXT NOT NULL",
            "PRIMARY KEY (id)",
            *(
                f"CONSTRAINT uq_{self.name}_{'_'.join(key)} UNIQUE ({', '.join(map(_quoted, key))})"
                for key in self.unique
            ),
        ]
        yield f"CREATE TABLE {self.name} ({', '.join(columns)})"
        for column in self.indexed:
            yield f'CREATE INDEX ix_{self.name}_{column} ON {self.name} ("{column}", id)'


def _quoted(name: str) -> str:
    return f'"{name}"'


def searchable(value: Any) -> str | None:
    """A value as its searched column holds it: text that sorts as the values do; the end of a long one is a digest."""
    if type(value) is str and len(value) <= _LONGEST:
        return value
    if value is None:
        return None
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, int):
        return f"{value:012d}"
    text = str(value)
    if len(text) <= _LONGEST:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()
    return text[: _LONGEST - len(digest)] + digest
