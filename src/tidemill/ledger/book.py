"""Books: the records of one type with their search index. Add, get, find and change, in SQL."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, Generic, TypeVar

import msgspec

from tidemill.core.metric_filter import MetricFilter
from tidemill.errors import Conflict, Corrupt, InputError, NotFound, Overtaken
from tidemill.ledger.connections import Connections
from tidemill.ledger.index import EMPTY_ENTRY, IndexEntry, index_record
from tidemill.ledger.query import LAST, build_conditions, choose_start, select, select_distinct
from tidemill.ledger.seals import StoredRow, hash_record
from tidemill.ledger.table import Table, quote, to_searchable

T = TypeVar("T", bound=msgspec.Struct)
_LISTED_BY = {"verdicts": "checks", "releases": "models", "steps": "runs", "artifacts": "runs"}
_TRIES = 50
_BATCH_SIZE = 1000
_ADD_TERM = "INSERT INTO terms (book, term, id) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
_FORGET_TERM = "DELETE FROM terms WHERE book = ? AND term = ? AND id = ?"
_ADD_MEASURE = (
    "INSERT INTO measures (book, name, id, value) VALUES (?, ?, ?, ?)"
    " ON CONFLICT (book, name, id) DO UPDATE SET value = excluded.value"
)
_FORGET_MEASURE = "DELETE FROM measures WHERE book = ? AND name = ? AND id = ?"


def _to_plain(value: Any) -> Any:
    """Return the number or truth value of a NumPy scalar, which evidence may contain."""
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    raise TypeError(f"objects of type {type(value).__name__} are not plain data")


class SqlBook(Generic[T]):
    """The records of one type, in one table; the methods of `core.resources.Book` are described there."""

    def __init__(self, connections: Connections, table: Table, record_type: type[T]) -> None:
        self._connections = connections
        self._table = table
        self._searched = table.searched
        self._keys = tuple({column for key in table.unique for column in key})
        self.record_type = record_type
        self._decode = msgspec.json.Decoder(record_type).decode

    @property
    def name(self) -> str:
        """Return the name of the table."""
        return self._table.name

    def _statement(self, sql: str) -> str:
        return self._connections.database.statement(sql)

    @cached_property
    def _insert(self) -> str:
        columns = ["id", "revision", *map(quote, self._searched), "body", "words"]
        # In PostgreSQL, a failed insert aborts the whole transaction; so a conflict inserts nothing instead.
        return self._statement(
            f"INSERT INTO {self._table.name} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
            " ON CONFLICT DO NOTHING"
        )

    @cached_property
    def _swap(self) -> str:
        columns = ", ".join(f"{quote(name)} = ?" for name in (*self._searched, "body", "words"))
        return self._statement(
            f"UPDATE {self._table.name} SET revision = revision + 1, {columns} WHERE id = ? AND revision = ?"
        )

    @cached_property
    def _select_by_id(self) -> str:
        return self._statement(f"SELECT id, revision, body FROM {self._table.name} WHERE id = ?")

    @cached_property
    def _select_by_prefix(self) -> str:
        return self._statement(
            f"SELECT id, revision, body FROM {self._table.name} WHERE id >= ? AND id < ? ORDER BY id LIMIT 2"
        )

    def _row(self, record: T, entry: IndexEntry) -> list[Any]:
        """Return the columns of a record: its searched values, its body and its words."""
        row: list[Any] = [to_searchable(getattr(record, name)) for name in self._searched]
        row += (self._encode(record).decode(), f" {' '.join(sorted(entry.words))} " if entry.words else "")
        return row

    def _encode(self, record: T) -> bytes:
        try:
            body = msgspec.json.encode(record, enc_hook=_to_plain)
            self._decode(body)
        except (msgspec.MsgspecError, TypeError, ValueError) as error:
            raise InputError(
                f"a record of {self._table.name} cannot be stored as JSON: {error}",
                "remove NaN and infinite numbers from it",
            ) from None
        return body

    def _index(self, connection: Any, identifier: str, old: IndexEntry, new: IndexEntry) -> None:
        """Write the difference between the old and the new index entry of a record."""
        book = self._table.name
        measures = new.measures.items() - old.measures.items()
        for sql, rows in (
            (_FORGET_TERM, [(book, term, identifier) for term in old.terms - new.terms]),
            (_ADD_TERM, [(book, term, identifier) for term in new.terms - old.terms]),
            (_FORGET_MEASURE, [(book, name, identifier) for name in old.measures.keys() - new.measures.keys()]),
            (_ADD_MEASURE, [(book, name, identifier, value) for name, value in measures]),
        ):
            if rows:
                connection.cursor().executemany(self._statement(sql), rows)

    def add(self, record: T) -> T:
        """Write a new record and return it.

        Raises
        ------
        Overtaken
            if another record has its id or one of its unique keys. An open transaction can continue.
        InputError
            if the record cannot be stored as JSON.
        """
        identifier = getattr(record, "id")  # noqa: B009 - every record has an id
        entry = index_record(record)
        row = (identifier, 1, *self._row(record, entry))
        with self._connections.transaction() as connection:
            if not connection.execute(self._insert, row).rowcount:
                raise self._conflict(identifier)
            self._connections.count_change(self.name, hash_record(self.name, identifier, 1, row[-2]))
            self._index(connection, identifier, EMPTY_ENTRY, entry)
        return record

    def add_all(self, records: Iterable[T]) -> None:
        """Write new records in one transaction, all or none.

        Raises
        ------
        Conflict
            if another record has an id or a unique key of one of them. An open transaction must be rolled back.
        InputError
            if a record cannot be stored as JSON.
        """
        book, rows = self._table.name, list[tuple[Any, ...]]()
        terms, measures = list[tuple[str, ...]](), list[tuple[Any, ...]]()
        for record in records:
            identifier, entry = getattr(record, "id"), index_record(record)  # noqa: B009
            rows.append((identifier, 1, *self._row(record, entry)))
            terms += [(book, term, identifier) for term in entry.terms]
            measures += [(book, name, identifier, value) for name, value in entry.measures.items()]
        if not rows:
            return
        with self._connections.transaction() as connection:
            cursor = connection.cursor()
            cursor.executemany(self._insert, rows)
            if cursor.rowcount != len(rows):
                raise Conflict(
                    f"{book} already has one of {len(rows)} new records", "read the records again, then retry"
                )
            added = sum(hash_record(book, row[0], 1, row[-2]) for row in rows)
            self._connections.count_change(book, added)
            # In the order of the index, so that the database writes each page once.
            for sql, entries in ((_ADD_TERM, sorted(terms)), (_ADD_MEASURE, sorted(measures))):
                if entries:
                    cursor.executemany(self._statement(sql), entries)

    def _conflict(self, identifier: str) -> Overtaken:
        return Overtaken(
            f"{self._table.name} already has a record with the keys of {identifier}", "read it again, then retry"
        )

    def load(self, record: T) -> T:
        """Write a record of another ledger, as `add` does."""
        return self.add(record)

    def get(self, identifier: str) -> T:
        """Return the record with that id, or with the only id that starts with it."""
        return self._read(self._select(identifier)[2])

    @cached_property
    def _select_for_update(self) -> str:
        """Return the query that locks a record until the end of the transaction."""
        return self._connections.database.for_update(self._select_by_id)

    def _select(self, identifier: str, *, locking: bool = False) -> tuple[str, int, str]:
        rows = self._connections.read(self._select_for_update if locking else self._select_by_id, (identifier,))
        if not rows and len(identifier) >= 8:
            rows = self._connections.read(self._select_by_prefix, (identifier, identifier + LAST))
        if len(rows) != 1:
            name = self._table.name
            cure = f"list the ids: `tidemill {_LISTED_BY.get(name, name)} list`"
            if rows:
                ids = ", ".join(str(row[0]) for row in rows)
                raise NotFound(
                    f"several ids of {name} start with {identifier!r}", f"use a longer part of the id: {ids}"
                )
            raise NotFound(f"{name} has no {identifier!r}", cure)
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
        """Return the records that match every argument."""
        self._require_columns(equals)
        table, connections = self._table.name, self._connections
        conditions = list(build_conditions(connections, table, equals, text, tag, metric, linked))
        bounds = [(sign, bound) for sign, bound in ((">", after), ("<", before)) if bound]
        start = choose_start(connections, conditions)
        query, parameters = select(table, conditions, start, bounds, newest=newest, limit=limit)
        return [self._read(body) for (body,) in self._connections.read(self._statement(query), parameters)]

    def _read(self, body: str) -> T:
        """Return the record with a body; raise `Corrupt` if it was damaged."""
        try:
            return self._decode(body)
        except msgspec.MsgspecError as error:
            query = self._statement(f"SELECT id FROM {self.name} WHERE body = ?")
            names = ", ".join(str(identifier) for (identifier,) in self._connections.read(query, (body,)))
            raise Corrupt(
                f"{self.name} {names} cannot be read: {error}", "restore a backup: `tidemill restore FILE`"
            ) from None

    def _require_columns(self, names: Iterable[str]) -> None:
        """Raise `TypeError` for a column that is not indexed: SQLite reads its name as a text, and finds nothing."""
        unknown = sorted({*names} - {"id", *self._table.searched})
        if unknown:
            known = ", ".join(self._table.searched)
            raise TypeError(f"{self._table.name} has no indexed column {unknown[0]!r}; it has: {known}")

    def values(self, column: str, **equals: Any) -> set[str]:
        """Return the distinct values of an indexed column among the records with the values `equals`."""
        self._require_columns((column, *equals))
        table, connections = self._table.name, self._connections
        conditions = list(build_conditions(connections, table, equals))
        query, parameters = select_distinct(connections, table, column, conditions)
        return {value for (value,) in connections.read(self._statement(query), parameters)}

    def change(self, identifier: str, update: Callable[[T], T]) -> T:
        """Replace a record with `update(record)`, by compare-and-swap.

        Raises
        ------
        NotFound
            if no record has that id.
        Conflict
            if another record has one of its unique keys, or other processes keep changing it. An open transaction can
            continue.
        InputError
            if the record cannot be stored as JSON.
        """
        for _ in range(_TRIES):
            with self._connections.transaction() as connection:
                full_id, revision, body = self._select(identifier, locking=True)
                old = self._read(body)
                record = update(old)
                entry = index_record(record)
                row = (*self._row(record, entry), full_id, revision)
                new_keys = any(getattr(old, key) != getattr(record, key) for key in self._keys)
                if self._try_replace(connection, row, full_id, new_keys=new_keys):
                    after = hash_record(self.name, full_id, revision + 1, row[len(self._searched)])
                    before = hash_record(self.name, full_id, revision, body)
                    self._connections.count_change(self.name, after - before)
                    self._index(connection, full_id, index_record(old), entry)
                    return record
        raise Conflict(f"other processes keep changing {self._table.name} {identifier}", "try again")

    def _try_replace(self, connection: Any, row: tuple[Any, ...], identifier: str, *, new_keys: bool) -> bool:
        if not new_keys:
            return bool(connection.execute(self._swap, row).rowcount)
        # In PostgreSQL, a failed update aborts the whole transaction; a savepoint limits it to the update.
        connection.execute("SAVEPOINT swap")
        try:
            return bool(connection.execute(self._swap, row).rowcount)
        except self._connections.database.UniqueViolation:
            connection.execute("ROLLBACK TO swap")
            raise self._conflict(identifier) from None
        finally:
            connection.execute("RELEASE swap")

    @property
    def _stored_columns(self) -> str:
        return ", ".join(("id", "revision", *map(quote, self._searched), "body", "words"))

    def iterate_stored(self, connection: Any) -> Iterator[StoredRow]:
        """Iterate over the stored rows in the order of their ids, also over those that were damaged or edited."""
        page = self._statement(
            f"SELECT {self._stored_columns} FROM {self.name} WHERE id > ? ORDER BY id LIMIT {_BATCH_SIZE}"
        )
        last = ""
        while rows := connection.execute(page, (last,)).fetchall():
            yield from map(self._to_stored_row, rows)
            last = rows[-1][0]

    def _to_stored_row(self, row: Sequence[Any]) -> StoredRow:
        identifier, revision, *values, body, words = row
        try:
            record = self._decode(body)
        except msgspec.MsgspecError:
            return StoredRow(identifier, revision, body, fits=False)
        entry = index_record(record)
        *expected, _, expected_words = self._row(record, entry)
        fits = [getattr(record, "id"), *expected, expected_words] == [identifier, *values, words]  # noqa: B009
        return StoredRow(identifier, revision, body, fits, entry)

    def fill_index(self, connection: Any) -> None:
        """Write the search index of every record of this book; the index must be empty.

        Raises
        ------
        Corrupt
            if a record cannot be read.
        """
        name, last = self._table.name, ""
        page = self._statement(f"SELECT id, body FROM {name} WHERE id > ? ORDER BY id LIMIT {_BATCH_SIZE}")
        fill = self._statement(f"UPDATE {name} SET words = ? WHERE id = ?")
        while rows := connection.execute(page, (last,)).fetchall():
            for identifier, body in rows:
                try:
                    record = self._decode(body)
                except msgspec.MsgspecError as error:
                    raise Corrupt(
                        f"{name} {identifier} cannot be read: {error}", "restore a backup: `tidemill restore FILE`"
                    ) from None
                entry = index_record(record)
                connection.execute(fill, (self._row(record, entry)[-1], identifier))
                self._index(connection, identifier, EMPTY_ENTRY, entry)
            last = rows[-1][0]


class SqlBookReader(Generic[T]):
    """The records of one type, to read."""

    def __init__(self, book: SqlBook[T]) -> None:
        self.get, self.find, self.values = book.get, book.find, book.values
