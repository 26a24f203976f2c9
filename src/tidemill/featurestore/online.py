"""The embedded online store: the latest row of each entity in SQLite; an older row never replaces a newer one."""

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, ClassVar

import msgspec

from tidemill.errors import TidemillError
from tidemill.ledger.sqlite import FileConnection, connect_file, create_file, is_replaced
from tidemill.presence import StoreMark, create_missing_error, make_folder

_COPY = "online.db"
_WHAT = "the online store"
_CREATE = """
CREATE TABLE latest (
    view TEXT NOT NULL, entity TEXT NOT NULL, time REAL NOT NULL, row BLOB NOT NULL, PRIMARY KEY (view, entity)
) WITHOUT ROWID
"""
_WRITE = """
INSERT INTO latest VALUES (?, ?, ?, ?) ON CONFLICT (view, entity)
DO UPDATE SET time = excluded.time, row = excluded.row WHERE excluded.time >= latest.time
"""


class SqliteOnline:
    """One packed row for each view and entity, with the time of its values."""

    writable: ClassVar[bool] = True

    def __init__(self, file: Path) -> None:
        self._file = file
        self._mark = StoreMark(file)
        self._local = threading.local()

    def _find_connection(self) -> sqlite3.Connection | None:
        """Return the connection of this thread; None if the store never existed.

        Raises
        ------
        StoreMissing
            if the store was created and is lost.
        """
        connection: FileConnection | None = getattr(self._local, "connection", None)
        if connection is not None:
            if not is_replaced(connection, self._file, _WHAT):
                return connection
            self._disconnect()
        if not self._file.exists():
            if self._mark.is_set:
                raise create_missing_error(_WHAT, self._file, self._mark.path)
            return None
        connection = connect_file(self._file, _WHAT)
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'latest'").fetchall():
            connection.close()
            raise create_missing_error(_WHAT, self._file, self._mark.path)
        self._mark.set()
        self._local.connection = connection
        return connection

    def _connection(self) -> sqlite3.Connection:
        """Return the connection of this thread; create the store if it never existed."""
        connection = self._find_connection()
        if connection is None:
            make_folder(self._file.parent)
            create_file(self._file, lambda new: new.execute(_CREATE))
            connection = self._find_connection()
        assert connection is not None
        return connection

    def _disconnect(self) -> None:
        """Close the connection of this thread; the next use opens a new one."""
        connection, self._local.connection = self._local.connection, None
        with suppress(sqlite3.Error):
            connection.close()

    def write(self, view: str, rows: Iterable[tuple[str, datetime, dict[str, Any]]]) -> None:
        """Write rows as (entity, time, values), all or none; raise `TidemillError` if the disk refuses the write."""
        packed = [(view, entity, time.timestamp(), msgspec.msgpack.encode(values)) for entity, time, values in rows]
        try:
            # The context manager commits, or rolls back after an error.
            with self._connection() as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(_WRITE, packed)
        except sqlite3.OperationalError as refused:
            raise TidemillError(
                f"{len(packed)} rows of view {view!r} could not be written to {self._file}: {refused}",
                "check free space and permissions; the previous values are still served",
            ) from None

    def read(self, view: str, entities: Sequence[str]) -> list[tuple[datetime, dict[str, Any]] | None]:
        """Return the time and the values of each entity; None for an unknown entity."""
        connection = self._find_connection()
        if connection is None:
            return [None for _ in entities]
        query = "SELECT time, row FROM latest WHERE view = ? AND entity = ?"
        rows = (connection.execute(query, (view, entity)).fetchone() for entity in entities)
        return [
            (datetime.fromtimestamp(row[0], UTC), msgspec.msgpack.decode(row[1])) if row is not None else None
            for row in rows
        ]

    def views(self) -> list[str]:
        """Return the names of the views with rows, in order."""
        connection = self._find_connection()
        if connection is None:
            return []
        return [name for (name,) in connection.execute("SELECT DISTINCT view FROM latest ORDER BY view")]

    def erase(self, view: str, matches: Callable[[str], bool], *, dry_run: bool = False) -> int:
        """Delete the rows of the entities that match, all or none; return the number of rows, also for a dry run."""
        connection = self._find_connection()
        if connection is None:
            return 0
        try:
            with connection:
                connection.execute("BEGIN IMMEDIATE")
                entities = [name for (name,) in connection.execute("SELECT entity FROM latest WHERE view = ?", (view,))]
                erased = [(view, entity) for entity in entities if matches(entity)]
                if erased and not dry_run:
                    connection.execute("PRAGMA secure_delete = ON")
                    connection.executemany("DELETE FROM latest WHERE view = ? AND entity = ?", erased)
            if erased and not dry_run:
                # Deleted values stay in the write-ahead log until it is merged into the file.
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as refused:
            raise TidemillError(
                f"rows of view {view!r} could not be deleted from {self._file}: {refused}",
                "check free space and permissions; no row was deleted",
            ) from None
        return len(erased)

    def export(self) -> Iterator[tuple[str, BinaryIO]]:
        """Yield a copy of the database."""
        if not self.views():
            return
        with TemporaryDirectory(prefix=".export-", dir=self._file.parent) as folder:
            copy = Path(folder) / _COPY
            self._connection().execute("VACUUM INTO ?", (str(copy),))
            with copy.open("rb") as source:
                yield _COPY, source

    def load(self, files: Iterable[tuple[str, BinaryIO]]) -> None:
        """Fill an empty store from an export."""
        connection = self._connection()
        with TemporaryDirectory(prefix=".load-", dir=self._file.parent) as folder:
            copy = Path(folder) / _COPY
            for _, source in files:
                with copy.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
                connection.execute("ATTACH ? AS copy", (str(copy),))
                try:
                    connection.execute("INSERT INTO latest SELECT * FROM copy.latest")
                finally:
                    connection.execute("DETACH copy")
