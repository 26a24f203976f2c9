"""The records of one noun and their index: add, get, find and change, in SQL that is written once."""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, Generic, TypeVar

import msgspec

from tidemill.core.metric_filter import MetricFilter
from tidemill.errors import Conflict, Corrupt, InputError, NotFound
from tidemill.ledger.connections import Connections
from tidemill.ledger.index import NOTHING, Indexed, indexed
from tidemill.ledger.query import LAST, begin_with, conditions, distinct, select
from tidemill.ledger.table import Table, quoted, searchable

T = TypeVar("T", bound=msgspec.Struct)
_LISTED_BY = {"verdicts": "checks", "releases": "models", "steps": "runs", "artifacts": "runs"}
_TRIES = 50
_AT_ONCE = 1000
_ADD_TERM = "INSERT INTO terms (book, term, id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_FORGET_TERM = "DELETE FROM terms WHERE book = ? AND term = ? AND id = ?"
_ADD_MEASURE = (
    "INSERT INTO measures (book, name, id, value) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (book, name, id) DO UPDATE SET value = excluded.value"
)
_FORGET_MEASURE = "DELETE FROM measures WHERE book = ? AND name = ? AND id = ?"


class SqlBook(Generic[T]):
    """The records of one noun, in one table."""

    def __init__(self, connections: Connections, table: Table, noun: type[T]) -> None:
        self._connections = connections
        self._table = table
        self._searched = table.searched
        self._keys = tuple({column for key in table.unique for column in key})
        self.noun = noun
        self._decode = msgspec.json.Decoder(noun).decode

    @property
    def name(self) -> str:
        """The name of the table."""
        return self._table.name

    def _statement(self, sql: str) -> str:
        return self._connections.database.statement(sql)

    @cached_property
    def _insert(self) -> str:
        columns = ["id", "revision", *map(quoted, self._searched), "body", "words"]
        # A refused insert would spoil the whole transaction in PostgreSQL: it is asked to do nothing instead.
        return self._statement(
            f"INSERT INTO {self._table.name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
            " ON CONFLICT DO NOTHING"
        )

    @cached_property
    def _swap(self) -> str:
        columns = ", ".join(f"{quoted(name)} = ?" for name in (*self._searched, "body", "words"))
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

    def _row(self, record: T, found: Indexed) -> list[Any]:
        """What is stored of a record: its searched columns, its body and its words."""
        row: list[Any] = [searchable(getattr(record, name)) for name in self._searched]
        try:
            body = msgspec.json.encode(record)
            self._decode(body)
        except (msgspec.MsgspecError, TypeError, ValueError) as wrong:
            raise InputError(
                f"a record of {self._table.name} could not be read back: {wrong}",
                "numbers that are not finite cannot be kept: leave them out",
            ) from None
        row += (body.decode(), f" {' '.join(sorted(found.words))} " if found.words else "")
        return row

    def _index(self, connection: Any, identifier: str, old: Indexed, new: Indexed) -> None:
        """Write the difference between what a record was found by and what it is found by now."""
        book = self._table.name
        measured = new.measures.items() - old.measures.items()
        for sql, rows in (
            (_FORGET_TERM, [(book, term, identifier) for term in old.terms - new.terms]),
            (_ADD_TERM, [(book, term, identifier) for term in new.terms - old.terms]),
            (_FORGET_MEASURE, [(book, name, identifier) for name in old.measures.keys() - new.measures.keys()]),
            (_ADD_MEASURE, [(book, name, identifier, value) for name, value in measured]),
        ):
            if rows:
                connection.cursor().executemany(self._statement(sql), rows)

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
        found = indexed(record)
        row = (identifier, 1, *self._row(record, found))
        with self._connections.transaction() as connection:
            if not connection.execute(self._insert, row).rowcount:
                raise self._taken(identifier)
            self._index(connection, identifier, NOTHING, found)
        return record

    def add_all(self, records: Iterable[T]) -> None:
        """Write many new records at once, all or none.

        Raises
        ------
        Conflict
            if an id or a unique key of one of them is taken; a transaction around it must not go on.
        InputError
            if one of them could not be read back.
        """
        book, rows = self._table.name, list[tuple[Any, ...]]()
        terms, measures = list[tuple[str, ...]](), list[tuple[Any, ...]]()
        for record in records:
            identifier, found = getattr(record, "id"), indexed(record)  # noqa: B009
            rows.append((identifier, 1, *self._row(record, found)))
            terms += [(book, term, identifier) for term in found.terms]
            measures += [(book, name, identifier, value) for name, value in found.measures.items()]
        if not rows:
            return
        with self._connections.transaction() as connection:
            cursor = connection.cursor()
            cursor.executemany(self._insert, rows)
            if cursor.rowcount != len(rows):
                raise Conflict(f"{book} already has one of {len(rows)} records", "read them again and decide anew")
            # In the order of the index, which is then written page by page.
            for sql, some in ((_ADD_TERM, sorted(terms)), (_ADD_MEASURE, sorted(measures))):
                if some:
                    cursor.executemany(self._statement(sql), some)

    def _taken(self, identifier: str) -> Conflict:
        return Conflict(f"{self._table.name} already has a record like {identifier}", "read it again and decide anew")

    def get(self, identifier: str) -> T:
        """The record of that id, or of the only id that begins like it (8 characters or more)."""
        return self._decode(self._select(identifier)[2])

    @cached_property
    def _locked(self) -> str:
        """Reads one record and, where others may write meanwhile, lets them wait for the end of the transaction."""
        return self._connections.database.for_update(self._one)

    def _select(self, identifier: str, *, locking: bool = False) -> tuple[str, int, str]:
        rows = self._connections.read(self._locked if locking else self._one, (identifier,))
        if not rows and len(identifier) >= 8:
            rows = self._connections.read(self._alike, (identifier, identifier + LAST))
        if len(rows) != 1:
            name = self._table.name
            listed = f"list them: `tidemill {_LISTED_BY.get(name, name)} list`"
            if rows:
                ids = ", ".join(str(row[0]) for row in rows)
                raise NotFound(f"{name} has several that begin with {identifier!r}", f"give more of the id: {ids}")
            raise NotFound(f"{name} has no {identifier!r}", listed)
        return rows[0]

    def find(
        self,
        *,
        limit: int | None = None,
        newest: bool = False,
        text: str = "",
        tag: str = "",
        metric: MetricFilter | None = None,
        linked: str = "",
        after: str = "",
        before: str = "",
        **equals: Any,
    ) -> list[T]:
        """The records that fit all that is given, as `core.resources.Book.find` says."""
        table, connections = self._table.name, self._connections
        asked = list(conditions(connections, table, equals, text, tag, metric, linked))
        within = [(sign, bound) for sign, bound in ((">", after), ("<", before)) if bound]
        way = begin_with(connections, asked)
        query, given = select(table, asked, way, within, newest=newest, limit=limit)
        return [self._decode(body) for (body,) in self._connections.read(self._statement(query), given)]

    def values(self, column: str, **equals: Any) -> set[str]:
        """The distinct values of a searched column among the records that equal the given ones."""
        table, connections = self._table.name, self._connections
        asked = list(conditions(connections, table, equals))
        query, given = distinct(connections, table, column, asked)
        return {value for (value,) in connections.read(self._statement(query), given)}

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
                found, revision, body = self._select(identifier, locking=True)
                old = self._decode(body)
                record = update(old)
                now = indexed(record)
                row = (*self._row(record, now), found, revision)
                moved = any(getattr(old, key) != getattr(record, key) for key in self._keys)
                if self._swapped(connection, row, found, moved=moved):
                    self._index(connection, found, indexed(old), now)
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

    def fill(self, connection: Any) -> None:
        """Write the search index of every record of this book, after the index was emptied.

        Raises
        ------
        Corrupt
            if a record cannot be read.
        """
        name, last = self._table.name, ""
        page = self._statement(f"SELECT id, body FROM {name} WHERE id > ? ORDER BY id LIMIT {_AT_ONCE}")
        fill = self._statement(f"UPDATE {name} SET words = ? WHERE id = ?")
        while rows := connection.execute(page, (last,)).fetchall():
            for identifier, body in rows:
                try:
                    record = self._decode(body)
                except msgspec.MsgspecError as wrong:
                    raise Corrupt(
                        f"{name} {identifier} cannot be read: {wrong}", "restore a backup: `tidemill restore FILE`"
                    ) from None
                found = indexed(record)
                connection.execute(fill, (self._row(record, found)[-1], identifier))
                self._index(connection, identifier, NOTHING, found)
            last = rows[-1][0]


class SqlBookReader(Generic[T]):
    """The records of one noun, for those who only read them."""

    def __init__(self, book: SqlBook[T]) -> None:
        self.get, self.find, self.values = book.get, book.find, book.values
