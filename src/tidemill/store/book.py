"""Book: the records of one noun in one table: its id, the columns that are searched, and the whole as JSON."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar

import msgspec
from sqlalchemy import (
    Column,
    Connection,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from tidemill.errors import Conflict, InputError, NotFound

T = TypeVar("T", bound=msgspec.Struct)
_TRIES = 50
_LONGEST = 200
_INSERT: dict[str, Callable[[Table], Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


class Connections(Protocol):
    """Where a book gets its connection: the open transaction of this thread, or a short one of its own."""

    def reading(self) -> Any: ...

    def transaction(self, *, durable: bool = False) -> Any: ...


def define(
    metadata: MetaData, name: str, indexed: tuple[str, ...] = (), unique: tuple[tuple[str, ...], ...] = ()
) -> Table:
    """The table of a noun: an index for each searched column, and the unique keys."""
    columns = {column for key in unique for column in key} | set(indexed)
    return Table(
        name,
        metadata,
        Column("id", String(80), primary_key=True),
        Column("revision", Integer, nullable=False),
        *(Column(column, String(_LONGEST)) for column in sorted(columns)),
        Column("body", Text, nullable=False),
        *(Index(f"ix_{name}_{column}", column, "id") for column in indexed),
        *(UniqueConstraint(*key, name=f"uq_{name}_{'_'.join(key)}") for key in unique),
    )


class Book(Generic[T]):
    """The records of one noun: add, get, find, change."""

    def __init__(self, connections: Connections, table: Table, noun: type[T]) -> None:
        self._connections = connections
        self._table = table
        self._noun = noun
        self._searched = [c.name for c in table.columns if c.name not in ("id", "revision", "body")]
        self._decode = msgspec.json.Decoder(noun).decode

    def _row(self, record: T) -> dict[str, Any]:
        row: dict[str, Any] = {name: searchable(getattr(record, name)) for name in self._searched}
        body = msgspec.json.encode(record)
        try:
            self._decode(body)
        except msgspec.ValidationError as wrong:
            raise InputError(
                f"a record of {self._table.name} could not be read back: {wrong}",
                "numbers that are not finite cannot be kept: leave them out",
            ) from None
        return row | {"body": body.decode()}

    def add(self, record: T) -> T:
        """Write a new record.

        Raises
        ------
        Conflict
            if its id or one of its unique keys is taken; a transaction around it can go on.
        InputError
            if it could not be read back.
        """
        identifier = getattr(record, "id")  # noqa: B009 - every noun has one
        row = {"id": identifier, "revision": 1, **self._row(record)}
        with self._connections.transaction() as connection:
            # A refused insert would spoil the whole transaction in PostgreSQL: it is asked to do nothing instead.
            insert = _INSERT[connection.dialect.name](self._table).values(row).on_conflict_do_nothing()
            written = connection.execute(insert.execution_options(preserve_rowcount=True)).rowcount
        if not written:
            raise self._taken(identifier)
        return record

    def _taken(self, identifier: str) -> Conflict:
        return Conflict(f"{self._table.name} already has a record like {identifier}", "read it again and decide anew")

    def get(self, identifier: str) -> T:
        """The record of that id, or of the only id that begins like it (8 characters or more)."""
        with self._connections.reading() as connection:
            return self._decode(self._select(connection, identifier)[2])

    def _select(self, connection: Connection, identifier: str) -> tuple[str, int, str]:
        table = self._table
        fields = select(table.c.id, table.c.revision, table.c.body)
        row = connection.execute(fields.where(table.c.id == identifier)).first()
        if row is None and len(identifier) >= 8:
            alike = connection.execute(fields.where(table.c.id.startswith(identifier, autoescape=True)).limit(2)).all()
            row = alike[0] if len(alike) == 1 else None
        if row is None:
            raise NotFound(f"{table.name} has no {identifier!r}", f"list them: `tidemill {table.name} list`")
        return row[0], row[1], row[2]

    def find(
        self,
        *,
        limit: int | None = None,
        newest: bool = False,
        text: str = "",
        after: str = "",
        before: str = "",
        **equals: Any,
    ) -> list[T]:
        """The records whose searched columns equal the given values, oldest first unless `newest`.

        `text` keeps those that have it anywhere, letter case aside; `after` and `before` those with a later or an
        earlier id.
        """
        table = self._table
        order = table.c.id.desc() if newest else table.c.id
        query = select(table.c.body).order_by(order).limit(limit)
        for name, value in equals.items():
            query = query.where(table.c[name] == searchable(value))
        if after:
            query = query.where(table.c.id > after)
        if before:
            query = query.where(table.c.id < before)
        if text:
            query = query.where(table.c.body.icontains(text, autoescape=True))
        with self._connections.reading() as connection:
            return [self._decode(body) for (body,) in connection.execute(query)]

    def values(self, column: str, **equals: Any) -> set[str]:
        """The distinct values of a searched column among the records that equal the given ones."""
        query = select(self._table.c[column]).distinct()
        for name, value in equals.items():
            query = query.where(self._table.c[name] == searchable(value))
        with self._connections.reading() as connection:
            return {value for (value,) in connection.execute(query)}

    def change(self, identifier: str, update_record: Callable[[T], T]) -> T:
        """Replace a record by `update_record(record)`, by compare-and-swap."""
        for _ in range(_TRIES):
            with self._connections.transaction() as connection:
                found, revision, body = self._select(connection, identifier)
                record = update_record(self._decode(body))
                swap = (
                    update(self._table)
                    .where(self._table.c.id == found, self._table.c.revision == revision)
                    .values(revision=revision + 1, **self._row(record))
                )
                try:
                    swapped = connection.execute(swap)
                except IntegrityError:
                    raise self._taken(found) from None
                if swapped.rowcount == 1:
                    return record
        raise Conflict(f"{self._table.name} {identifier} keeps changing", "try again")


def searchable(value: Any) -> str | None:
    """A value as its searched column holds it: text that sorts as the values do; the end of a long one is a digest."""
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
