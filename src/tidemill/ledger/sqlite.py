"""A ledger's database in an SQLite file, and the settings of every SQLite connection of Tidemill."""

import shutil
import sqlite3
import time
from pathlib import Path

from tidemill.errors import Corrupt, TidemillError, Transient
from tidemill.ledger.mounts import require_local_disk

_PATIENCE = 60.0
_PATIENCE_WITH_MIGRATIONS = 1800.0
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
TEMPORARY = "?temporary"
"""The end of the URL of a database that nobody needs after a crash of the machine: no commit waits for the disk."""
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL)


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


class _Connection(sqlite3.Connection):
    """A connection with a flag whether its commits wait for the disk."""

    durable = False


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
        self.address = url.removeprefix("sqlite://").removeprefix("/").removesuffix(TEMPORARY)
        self._created = False

    def connect(self) -> _Connection:
        """Open a connection, in autocommit."""
        # Never create a deleted file again: an empty ledger would hide the loss.
        address = (
            f"{Path(self.address).absolute().as_uri()}?mode={'rw' if self._created else 'rwc'}"
            if self.address
            else ":memory:"
        )
        connection = sqlite3.connect(
            address, isolation_level=None, check_same_thread=False, factory=_Connection, uri=bool(self.address)
        )
        enable_wal(connection)
        self._created = True
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

    def begin(self, connection: _Connection, *, durable: bool) -> None:
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

    def roll_back(self, connection: _Connection | None) -> None:
        """Roll back the open transaction, unless an error (such as a full disk) has already done it."""
        if connection is not None and connection.in_transaction:
            connection.execute("ROLLBACK")

    def is_lost(self, _: _Connection) -> bool:
        """Return False: a connection to a file stays open."""
        return False

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
