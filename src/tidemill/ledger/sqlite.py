"""What every SQLite file of the house needs: a write-ahead log, and patience with other processes."""

import shutil
import sqlite3
import time
from pathlib import Path

from tidemill.errors import Corrupt, TidemillError, Transient
from tidemill.ledger.mounts import refuse_network

_PATIENCE = 60.0
_PATIENCE_WITH_MIGRATIONS = 1800.0
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL)


def prepare(connection: sqlite3.Connection) -> None:
    """Bring a fresh connection into write-ahead logging; its statements wait for other processes.

    Raises `TidemillError` where the file is on a network file system, which has no memory to share.
    """
    file = connection.execute("PRAGMA database_list").fetchone()[2]
    if file:
        refuse_network(Path(file).parent)
    connection.execute(f"PRAGMA busy_timeout={int(_PATIENCE * 1000)}")
    # Unlike other statements, the change into WAL does not wait while another process opens the same new file.
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
    """A connection that knows whether its commits wait for the disk."""

    durable = False


class _Unshared:
    """A lock that nobody else could lock."""

    def is_alive(self) -> bool:
        return True

    def release(self) -> None:
        """There is nothing to open."""


class Sqlite:
    """A ledger's database in one file; without a file, in the memory of each thread."""

    dialect = "sqlite"
    by_key = " WITHOUT ROWID"
    Error: type[Exception] = sqlite3.Error
    Taken: type[Exception] = sqlite3.IntegrityError

    def __init__(self, url: str) -> None:
        self.place = url.removeprefix("sqlite://").removeprefix("/")
        self._made = False

    def connect(self) -> _Connection:
        """A fresh connection, in autocommit."""
        # A file that was deleted meanwhile is not made again, empty: that would hide what was lost.
        place = (
            f"{Path(self.place).absolute().as_uri()}?mode={'rw' if self._made else 'rwc'}" if self.place else ":memory:"
        )
        connection = sqlite3.connect(
            place, isolation_level=None, check_same_thread=False, factory=_Connection, uri=bool(self.place)
        )
        prepare(connection)
        self._made = True
        # Each checkpoint waits for the disk: one for 16 MB of log instead of one for four.
        connection.execute("PRAGMA wal_autocheckpoint=4000")
        return connection

    def statement(self, sql: str) -> str:
        """SQL with `?` for each parameter, as this driver takes it."""
        return sql

    @property
    def file(self) -> Path | None:
        """The file that contains all of it."""
        return Path(self.place) if self.place else None

    def for_update(self, sql: str) -> str:
        """The query itself: nobody else writes within a transaction that does."""
        return sql

    def text(self, length: int) -> str:
        """The type of a text column: text is ordered by its code points anyway."""
        return f"VARCHAR({length})"

    def begin(self, connection: _Connection, *, durable: bool) -> None:
        """Begin a transaction that writes; where it is `durable`, its commit waits for the disk."""
        if connection.durable != durable:
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            connection.durable = durable
        connection.execute("BEGIN IMMEDIATE")

    def begin_snapshot(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction that reads everything as of one moment."""
        connection.execute("BEGIN")

    def exclude_writers(self, connection: sqlite3.Connection, tables: tuple[str, ...]) -> None:
        """Let no other transaction write: SQLite's writers are alone anyway."""

    def has(self, connection: sqlite3.Connection, table: str) -> bool:
        """Whether there is a table of that name."""
        return bool(connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (table,)).fetchall())

    def lock_for_setting_up(self, connection: sqlite3.Connection) -> None:
        """Let one process alone create tables in this transaction: SQLite's writers are alone anyway."""

    def connect_to_migrate(self) -> sqlite3.Connection:
        """A fresh connection that waits as long as another process may take to change the tables."""
        connection = self.connect()
        connection.execute(f"PRAGMA busy_timeout={int(_PATIENCE_WITH_MIGRATIONS * 1000)}")
        connection.execute("PRAGMA synchronous=FULL")
        return connection

    def begin_to_migrate(self, connection: sqlite3.Connection) -> None:
        """Begin the transaction in which this process alone changes the tables."""
        connection.execute("BEGIN IMMEDIATE")

    def roll_back(self, connection: _Connection | None) -> None:
        """Undo the open transaction, if a full disk has not undone it already."""
        if connection is not None and connection.in_transaction:
            connection.execute("ROLLBACK")

    def lost(self, _: _Connection) -> bool:
        """Whether the connection is gone for good."""
        return False

    def lock(self, name: str, *, shared: bool = False) -> "_Unshared":  # noqa: ARG002 - the protocol's
        """A lock that is always free: no other machine shares a file, and on this one files are locked instead."""
        return _Unshared()

    def draft(self, folder: Path, name: str) -> "Sqlite":  # noqa: ARG002 - the protocol's
        """An empty database in a folder."""
        return Sqlite(f"sqlite:///{folder / 'draft-ledger.db'}")

    def adopt(self, draft: "Sqlite", aside: Path, *, keep: bool) -> None:
        """Move this file into the folder `aside`, or delete it, and move the draft to its place."""
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
        """Nothing is left of it outside its folder."""

    def explain(self, error: Exception, what: str = "refused") -> TidemillError:
        """The error to report to a user for one of the driver's."""
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        problem = f"the ledger at {Path(self.place)} {what}: {error}"
        if code in _DAMAGED:
            return Corrupt(problem, "restore a backup: `tidemill restore FILE`")
        if code in _LOCKED:
            return Transient(
                f"another process has locked the ledger at {Path(self.place)} for longer than a minute",
                "find and stop it, then try again; nothing half-written was kept",
            )
        if code == sqlite3.SQLITE_FULL:
            return TidemillError(problem, "free space on that disk and go on; nothing half-written was kept")
        return TidemillError(
            problem, "check that it is there, with free space and writable for you; nothing half-written was kept"
        )
