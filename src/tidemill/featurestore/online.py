"""The embedded online store: the latest row of each entity in SQLite; an older row never replaces a newer one."""

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, ClassVar

from tidemill.core.damage import Damage
from tidemill.errors import Corrupt, StoreMissing, TidemillError
from tidemill.featurestore.online_damage import (
    CREATE,
    CURE,
    copy_intact_rows,
    create_structure_error,
    decode_text,
    find_damages,
    require_neighbours,
    require_structure,
    require_table,
)
from tidemill.featurestore.packing import pack, unpack
from tidemill.ledger.sqlite import FileConnection, connect_file, create_file, is_replaced
from tidemill.presence import StoreMark, create_missing_error, make_folder
from tidemill.telemetry import get_logger

log = get_logger("featurestore")
_COPY = "online.db"
_WHAT = "the online store"
_CHECKED = 16 << 20  # bytes; the structure of a file that is not larger is verified when it is opened
_WRITE = """
INSERT INTO latest VALUES (?, ?, ?, ?) ON CONFLICT (view, entity)
DO UPDATE SET time = excluded.time, row = excluded.row WHERE excluded.time >= latest.time
"""


class SqliteOnline:
    """One packed row for each view and entity, with the time of its values and a checksum."""

    writable: ClassVar[bool] = True

    def __init__(self, file: Path) -> None:
        self._file = file
        self._mark = StoreMark(file)
        self._local = threading.local()
        self._problem = ""
        self._damaged: os.stat_result | None = None

    def _find_connection(self) -> sqlite3.Connection | None:
        """Return the connection of this thread; None if the store never existed.

        Raises
        ------
        StoreMissing
            if the store was created and is lost.
        Corrupt
            if the file is damaged.
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
        if self._damaged is not None and _is_same(self._damaged, self._file.stat()):
            raise Corrupt(self._problem, CURE)
        try:
            with self._explain():
                connection = self._open()
        except Corrupt:
            with suppress(OSError):
                self._damaged = self._file.stat()
            raise
        self._mark.set()
        self._local.connection = connection
        return connection

    def _connection(self) -> sqlite3.Connection:
        """Return the connection of this thread; create the store if it never existed."""
        connection = self._find_connection()
        if connection is None:
            make_folder(self._file.parent)
            create_file(self._file, lambda new: new.execute(CREATE))
            connection = self._find_connection()
        assert connection is not None
        return connection

    def _open(self) -> FileConnection:
        if not self._file.stat().st_size:
            raise create_structure_error(self._file, "it is empty")
        connection = connect_file(self._file, _WHAT)
        connection.text_factory = decode_text
        try:
            require_table(connection, self._file)
            if self._file.stat().st_size <= _CHECKED:
                require_structure(connection, self._file)
        except BaseException:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        """Close the connection of this thread; the next use opens a new one."""
        connection: FileConnection | None = getattr(self._local, "connection", None)
        self._local.connection = None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    @contextmanager
    def _explain(self) -> Iterator[None]:
        """Raise `Corrupt` for an error that shows that the file is damaged."""
        try:
            yield
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            damage = create_structure_error(self._file, str(error))
            if not self._problem:
                log.error("%s", damage.problem)
            self._problem = damage.problem
            raise damage from None
        except Corrupt as damage:
            self._problem = damage.problem
            raise

    def write(self, view: str, rows: Iterable[tuple[str, datetime, dict[str, Any]]]) -> None:
        """Write rows as (entity, time, values), all or none; raise `TidemillError` if the disk refuses the write."""
        packed = []
        for entity, time, values in rows:
            moment = time.timestamp()
            packed.append((view, entity, moment, pack(view, entity, moment, values)))
        try:
            # The context manager commits, or rolls back after an error.
            with self._explain(), self._connection() as connection:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(_WRITE, packed)
        except sqlite3.OperationalError as refused:
            raise TidemillError(
                f"{len(packed)} rows of view {view!r} could not be written to {self._file}: {refused}",
                "check free space and permissions; the previous values are still served",
            ) from None

    def read(self, view: str, entities: Sequence[str]) -> list[tuple[datetime, dict[str, Any]] | None]:
        """Return the time and the values of each entity; None for an unknown entity.

        Raises
        ------
        Corrupt
            if the row of an entity, or where it should be, is damaged.
        """
        connection = self._find_connection()
        if connection is None:
            return [None for _ in entities]
        query = "SELECT time, row FROM latest WHERE view = ? AND entity = ?"
        found: list[tuple[datetime, dict[str, Any]] | None] = []
        with self._explain():
            for entity in entities:
                row = connection.execute(query, (view, entity)).fetchone()
                if row is None:
                    require_neighbours(connection, view, entity)
                found.append(None if row is None else unpack(view, entity, *row))
        return found

    def views(self) -> list[str]:
        """Return the names of the views with rows, in order."""
        connection = self._find_connection()
        if connection is None:
            return []
        with self._explain():
            return [name for (name,) in connection.execute("SELECT DISTINCT view FROM latest ORDER BY view")]

    def erase(self, view: str, matches: Callable[[str], bool], *, dry_run: bool = False) -> int:
        """Delete the rows of the entities that match, all or none; return the number of rows, also for a dry run."""
        connection = self._find_connection()
        if connection is None:
            return 0
        try:
            with self._explain(), connection:
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

    def check(self) -> Iterator[Damage]:
        """Read and verify the whole file, and yield each damaged row, or the damage of the file."""
        found = []
        try:
            with self._explain():
                connection = self._find_connection()
                found = list(find_damages(connection, self._file)) if connection is not None else []
        except (Corrupt, sqlite3.OperationalError):
            found = self.damages()
        except StoreMissing as missing:
            found = [
                Damage(
                    store="online", name=self._file.name, state="missing", problem=missing.problem, cure=missing.cure
                )
            ]
        yield from found

    def damages(self) -> list[Damage]:
        """Return the damage of the file that was found when it was used."""
        if not self._problem:
            return []
        return [Damage(store="online", name=self._file.name, state="damaged", problem=self._problem, cure=CURE)]

    def drop_damaged(self) -> None:
        """Delete the damaged rows; a file without structure is set aside, and a lost one is created again.

        The views must be materialized then.
        """
        self._problem, self._damaged = "", None
        try:
            with self._explain():
                copy_intact_rows(self._connection())
                require_structure(self._connection(), self._file)
        except (Corrupt, StoreMissing):
            self._disconnect()
            for ending in ("-wal", "-shm", ""):
                file = self._file.with_name(self._file.name + ending)
                with suppress(FileNotFoundError):
                    file.replace(file.with_name(file.name + ".damaged"))
            self._mark.forget()
            self._problem, self._damaged = "", None
            self._connection()

    def export(self) -> Iterator[tuple[str, BinaryIO]]:
        """Yield a copy of the database, without damaged rows; raise `Corrupt` if the file has no structure."""
        if not self.views():
            return
        with TemporaryDirectory(prefix=".export-", dir=self._file.parent) as folder:
            copy = Path(folder) / _COPY
            with self._explain():
                self._connection().execute("VACUUM INTO ?", (str(copy),))
                copied = sqlite3.connect(copy, isolation_level=None)
                copied.text_factory = decode_text
                try:
                    copy_intact_rows(copied)
                finally:
                    copied.close()
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


def _is_same(first: os.stat_result, second: os.stat_result) -> bool:
    """Return whether a file is the same as before, with the same bytes."""
    return os.path.samestat(first, second) and first.st_mtime_ns == second.st_mtime_ns
