"""Book: the records of one noun: add, get, find and change, each in SQL that is written once."""

from collections.abc import Callable
from functools import cached_property
from typing import Any, Generic, TypeVar

import msgspec

from tidemill.errors import Conflict, InputError, NotFound
from tidemill.store.connections import Connections
from tidemill.store.table import Table, searchable

T = TypeVar("T", bound=msgspec.Struct)
_TRIES = 50
_LAST = "\U0010ffff"


class Book(Generic[T]):
    """The records of one noun, in one table."""

    def __init__(self, connections: Connections, table: Table, noun: type[T]) -> None:
        self._connections = connections
        self._table = table
        self._searched = table.searched
        self._keys = tuple({column for key in table.unique for column in key})
        self._decode = msgspec.json.Decoder(noun).decode
        self._shapes: dict[tuple[Any, ...], str] = {}

    def _statement(self, sql: str) -> str:
        return self._connections.database.statement(sql)

    @cached_property
    def _insert(self) -> str:
        columns = ["id", "revision", *(f'"{name}"' for name in self._searched), "body"]
        # A refused insert would spoil the whole transaction in PostgreSQL: it is asked to do nothing instead.
        return self._statement(
            f"INSERT INTO {self._table.name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
            " ON CONFLICT DO NOTHING"
        )

    @cached_property
    def _swap(self) -> str:
        columns = ", ".join(f'"{name}" = ?' for name in (*self._searched, "body"))
        return self._statement(
            f"UPDATE {self._table.name} SET revision = revision + 1, {columns} WHERE id = ? AND revision = ?"
        )

    @cached_property
    def _one(self) -> str:
        return self._statement(f"SELECT id, revision, body FROM {self._table.name} WHERE id = ?")

    @cached_property
    def _alike(self) -> str:
        return self._statement(
            f"SELECT id, revision, body FROM {self._table.name} WHERE id >= ? AND id < ? ORDER BY id LIMIT 2"
        )

    def _row(self, record: T) -> list[Any]:
        """What is stored of a record: its searched columns, and its body."""
        row: list[Any] = [searchable(getattr(record, name)) for name in self._searched]
        body = msgspec.json.encode(record)
        try:
            self._decode(body)
        except msgspec.ValidationError as wrong:
            raise InputError(
                f"a record of {self._table.name} could not be read back: {wrong}",
                "numbers that are not finite cannot be kept: leave them out",
            ) from None
        row.append(body.decode())
        return row

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
        row = (identifier, 1, *self._row(record))
        with self._connections.transaction() as connection:
            if not connection.execute(self._insert, row).rowcount:
                raise self._taken(identifier)
        return record

    def _taken(self, identifier: str) -> Conflict:
        return Conflict(f"{self._table.name} already has a record like {identifier}", "read it again and decide anew")

    def get(self, identifier: str) -> T:
        """The record of that id, or of the only id that begins like it (8 characters or more)."""
        return self._decode(self._select(identifier)[2])

    def _select(self, identifier: str) -> tuple[str, int, str]:
        rows = self._connections.read(self._one, (identifier,))
        if not rows and len(identifier) >= 8:
            rows = self._connections.read(self._alike, (identifier, identifier + _LAST))
        if len(rows) != 1:
            name = self._table.name
            raise NotFound(f"{name} has no {identifier!r}", f"list them: `tidemill {name} list`")
        return rows[0]

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
        shape = (limit is None, newest, bool(text), bool(after), bool(before), *equals)
        query = self._shapes.get(shape)
        if query is None:
            query = self._shapes[shape] = self._query(shape[:5], equals)
        given: list[Any] = [searchable(value) for value in equals.values()]
        given += [bound for bound in (after, before) if bound]
        if text:
            escaped = text.lower().replace("/", "//").replace("%", "/%").replace("_", "/_")
            given.append(f"%{escaped}%")
        if limit is not None:
            given.append(limit)
        return [self._decode(body) for (body,) in self._connections.read(query, given)]

    def _query(self, shape: tuple[Any, ...], equals: dict[str, Any]) -> str:
        endless, newest, text, after, before = shape
        conditions = [f'"{name}" = ?' for name in equals]
        conditions += ["id > ?"] * after + ["id < ?"] * before + ["lower(body) LIKE ? ESCAPE '/'"] * text
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        return self._statement(
            f"SELECT body FROM {self._table.name}{where} ORDER BY id{' DESC' * newest}{'' if endless else ' LIMIT ?'}"
        )

    def values(self, column: str, **equals: Any) -> set[str]:
        """The distinct values of a searched column among the records that equal the given ones."""
        where = " WHERE " + " AND ".join(f'"{name}" = ?' for name in equals) if equals else ""
        query = self._statement(f'SELECT DISTINCT "{column}" FROM {self._table.name}{where}')
        return {value for (value,) in self._connections.read(query, [searchable(value) for value in equals.values()])}

    def change(self, identifier: str, update: Callable[[T], T]) -> T:
        """Replace a record by `update(record)`, by compare-and-swap.

        Raises
        ------
        NotFound
            if no record has that id.
        Conflict
            if another record has one of its unique keys, or it keeps changing; a transaction around it can go on.
        InputError
            if it could not be read back.
        """
        for _ in range(_TRIES):
            with self._connections.transaction() as connection:
                found, revision, body = self._select(identifier)
                old = self._decode(body)
                record = update(old)
                row = (*self._row(record), found, revision)
                moved = any(getattr(old, key) != getattr(record, key) for key in self._keys)
                if self._swapped(connection, row, found, moved=moved):
                    return record
        raise Conflict(f"{self._table.name} {identifier} keeps changing", "try again")

    def _swapped(self, connection: Any, row: tuple[Any, ...], identifier: str, *, moved: bool) -> bool:
        if not moved:
            return bool(connection.execute(self._swap, row).rowcount)
        # A refused update would spoil the whole transaction in PostgreSQL: it is undone alone.
        connection.execute("SAVEPOINT swap")
        try:
            return bool(connection.execute(self._swap, row).rowcount)
        except self._connections.database.Taken:
            connection.execute("ROLLBACK TO swap")
            raise self._taken(identifier) from None
        finally:
            connection.execute("RELEASE swap")
