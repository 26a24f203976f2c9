"""A ledger's database in an SQLite file, and the settings of every SQLite connection of Tidemill."""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from secrets import token_hex
from typing import Any

from tidemill.errors import Corrupt, TidemillError, Transient
from tidemill.ledger.mounts import require_local_disk
from tidemill.presence import create_missing_error, open_private

_PATIENCE = 60.0
_PATIENCE_WITH_MIGRATIONS = 1800.0
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
TEMPORARY = "?temporary"
"""The end of the URL of a database that nobody needs after a crash of the machine: no commit waits for the disk."""
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL)
_BROKEN = (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN)
_LEFT_OVER = 3600.0  # seconds


def enable_wal(connection: sqlite3.Connection) -> None:
    """Switch a new connection to write-ahead logging; its statements wait while other processes write.

    Raises
    ------
    TidemillError
        if the file is on a network file system.
    """
    file = connection.execute("PRAGMA database_list").fetchone()[2]
    if file:
        require_local_disk(Path(file).parent)
    connection.execute(f"PRAGMA busy_timeout={int(_PATIENCE * 1000)}")
    # Unlike other statements, the switch to WAL does not wait while another process opens the same new file.
    deadline = time.monotonic() + _PATIENCE
    while not _in_wal(connection):
        if time.monotonic() > deadline:
            raise sqlite3.OperationalError("database is locked")
        time.sleep(0.01)
    connection.execute("PRAGMA synchronous=NORMAL")


def _in_wal(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.OperationalError as refused:
        if "locked" not in str(refused):
            raise
        return False
    return True


class FileConnection(sqlite3.Connection):
    """A connection with the identity of its file, and a flag whether its commits wait for the disk."""

    durable = False
    identity: tuple[int, int] | None = None


def identify_file(file: Path | str) -> tuple[int, int] | None:
    """Return the device and the inode of a file; None if it is missing."""
    try:
        status = os.stat(file)  # noqa: PTH116 - this is called for each statement
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


def connect_file(file: Path, what: str) -> FileConnection:
    """Open a connection to a database file that exists, in autocommit, with write-ahead logging.

    Raises
    ------
    StoreMissing
        if the file does not exist; it is never created.
    """
    identity = identify_file(file)
    if identity is None:
        raise create_missing_error(what, file)
    address = f"{file.absolute().as_uri()}?mode=rw"
    connection = sqlite3.connect(
        address, isolation_level=None, check_same_thread=False, factory=FileConnection, uri=True
    )
    try:
        enable_wal(connection)
        if identify_file(file) != identity:
            raise create_missing_error(what, file)
    except BaseException:
        connection.close()
        raise
    connection.identity = identity
    return connection


def is_replaced(connection: FileConnection, file: Path | str, what: str) -> bool:
    """Return whether another file is at the path of an open connection; raise `StoreMissing` if there is none.

    Writes to a file that was moved or deleted succeed, but nobody else sees them.
    """
    identity = identify_file(file)
    if identity is None:
        raise create_missing_error(what, Path(file))
    return identity != connection.identity


def create_file(file: Path, fill: Callable[[sqlite3.Connection], object]) -> None:
    """Create a database file with its tables, unless it exists; other processes never see it without them."""
    if file.exists():
        return
    require_local_disk(file.parent)
    for left in file.parent.glob(f".{file.name}.*.new*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _LEFT_OVER:
                left.unlink()
    draft = file.with_name(f".{file.name}.{token_hex(6)}.new")
    try:
        os.close(open_private(str(draft), os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        with closing(sqlite3.connect(draft, isolation_level=None)) as connection:
            enable_wal(connection)
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute("BEGIN IMMEDIATE")
            fill(connection)
            connection.execute("COMMIT")
        # A link, unlike a rename, never replaces the file that another process has created meanwhile.
        with suppress(FileExistsError):
            os.link(draft, file)
    finally:
        for ending in ("", "-wal", "-shm"):
            draft.with_name(draft.name + ending).unlink(missing_ok=True)


class _NoLock:
    """A lock without effect: no other machine uses the same file."""

    def is_alive(self) -> bool:
        """Return True."""
        return True

    def release(self) -> None:
        """Do nothing."""


class Sqlite:
    """A ledger's database in one file; without a file, in the memory of each thread."""

    dialect = "sqlite"
    table_option = " WITHOUT ROWID"
    Error: type[Exception] = sqlite3.Error
    UniqueViolation: type[Exception] = sqlite3.IntegrityError

    def __init__(self, url: str) -> None:
        self._is_temporary = url.endswith(TEMPORARY)
        address = url.removeprefix("sqlite://").removeprefix("/").removesuffix(TEMPORARY)
        self.address = "" if address == ":memory:" else address

    def prepare(self, fill: Callable[[Any], None]) -> None:
        """Create the file with the tables that `fill` makes, unless it exists."""
        if self.address:
            try:
                create_file(Path(self.address), fill)
            except OSError as refused:
                raise TidemillError(
                    f"the ledger at {self.address} cannot be opened: {refused.strerror}",
                    "check the path, that you can write it, and free space",
                ) from None

    def connect(self) -> FileConnection:
        """Open a connection, in autocommit; raise `StoreMissing` if the file does not exist."""
        if self.address:
            connection = connect_file(Path(self.address), "the ledger")
        else:
            connection = sqlite3.connect(
                ":memory:", isolation_level=None, check_same_thread=False, factory=FileConnection
            )
        # Each checkpoint waits for the disk: one for 16 MB of log instead of one for four.
        connection.execute("PRAGMA wal_autocheckpoint=4000")
        if self._is_temporary:
            connection.execute("PRAGMA synchronous=OFF")
        return connection

    def statement(self, sql: str) -> str:
        """Return the SQL: the driver uses `?` parameters."""
        return sql

    @property
    def file(self) -> Path | None:
        """Return the file of the database; None in memory."""
        return Path(self.address) if self.address else None

    def for_update(self, sql: str) -> str:
        """Return the query: SQLite has only one writer at a time."""
        return sql

    def text_type(self, length: int) -> str:
        """Return the SQL type of a text column; SQLite sorts text by code points."""
        return f"VARCHAR({length})"

    def begin(self, connection: FileConnection, *, durable: bool) -> None:
        """Begin a transaction that writes; with `durable`, its commit waits for the disk."""
        if connection.durable != durable and not self._is_temporary:
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            connection.durable = durable
        connection.execute("BEGIN IMMEDIATE")

    def begin_snapshot(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction that reads a snapshot of all tables."""
        connection.execute("BEGIN")

    def exclude_writers(self, connection: sqlite3.Connection, tables: tuple[str, ...]) -> None:
        """Do nothing: SQLite has only one writer at a time."""

    def has_table(self, connection: sqlite3.Connection, table: str) -> bool:
        """Return whether a table with that name exists."""
        return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchall())

    def lock_for_setting_up(self, connection: sqlite3.Connection) -> None:
        """Do nothing: SQLite has only one writer at a time."""

    def connect_to_migrate(self) -> sqlite3.Connection:
        """Open a connection that waits while another process changes the tables."""
        connection = self.connect()
        connection.execute(f"PRAGMA busy_timeout={int(_PATIENCE_WITH_MIGRATIONS * 1000)}")
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def begin_to_migrate(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction in which only this process can change the tables."""
        connection.execute("BEGIN IMMEDIATE")

    def roll_back(self, connection: FileConnection | None) -> None:
        """Roll back the open transaction, unless an error (such as a full disk) has already done it."""
        if connection is not None and connection.in_transaction:
            connection.execute("ROLLBACK")

    def is_lost(self, connection: FileConnection) -> bool:
        """Return whether the file was replaced by another; raise `StoreMissing` if it is missing."""
        return bool(self.address) and is_replaced(connection, self.address, "the ledger")

    def is_broken(self, error: Exception) -> bool:
        """Return whether a connection is useless after an error: its files were moved while it was open."""
        return getattr(error, "sqlite_errorcode", 0) & 0xFF in _BROKEN

    def lock(self, name: str, *, shared: bool = False) -> "_NoLock":  # noqa: ARG002 - part of the protocol
        """Return a lock without effect: processes on this machine use file locks, and other machines no SQLite file."""
        return _NoLock()

    def draft(self, folder: Path, name: str) -> "Sqlite":  # noqa: ARG002 - part of the protocol
        """Create an empty database file in a folder."""
        return Sqlite(f"sqlite:///{folder / 'draft-ledger.db'}")

    def adopt(self, draft: "Sqlite", aside: Path, *, keep: bool) -> None:
        """Move this file into the folder `aside`, or delete it, and replace it with the draft."""
        assert self.file is not None
        assert draft.file is not None
        for ending in ("", "-wal", "-shm"):
            file = self.file.with_name(self.file.name + ending)
            if file.exists():
                if keep:
                    shutil.move(file, aside / file.name)
                else:
                    file.unlink()
        shutil.move(draft.file, self.file)

    def discard(self, draft: "Sqlite") -> None:
        """Do nothing: the draft is in a temporary folder."""

    def explain(self, error: Exception, what: str = "refused") -> TidemillError:
        """Translate an error of the driver into an error for a user."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        problem = f"the ledger at {Path(self.address)} {what}: {error}"
        if code in _DAMAGED:
            return Corrupt(problem, "restore a backup: `tidemill restore FILE`")
        if code in _LOCKED:
            return Transient(
                f"another process has locked the ledger at {Path(self.address)} for longer than a minute",
                "stop that process, then try again; the transaction was rolled back",
            )
        if code == sqlite3.SQLITE_FULL:
            return TidemillError(problem, "free space on that disk, then try again; the transaction was rolled back")
        return TidemillError(
            problem,
            "check that the file exists, that you can write it, and free space; the transaction was rolled back",
        )
