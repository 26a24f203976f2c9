"""A ledger's database on a PostgreSQL server."""

import os
import re
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString
from urllib.parse import urlsplit
from weakref import WeakSet

from tidemill.errors import MissingExtra, TidemillError, Transient

if TYPE_CHECKING:
    from psycopg import Connection

_SETTING_UP = 0x71DE
_LOCKS = 0x71E0
# The server notices within half a minute that a client machine is unreachable.
_KEEPALIVE = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
_TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema"


class Postgres:
    """A database on a server, by its URL."""

    dialect = "postgresql"
    table_option = ""
    file = None

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError:
            raise MissingExtra("psycopg", "postgres") from None
        self.Error: type[Exception] = psycopg.Error
        self.UniqueViolation: type[Exception] = psycopg.errors.UniqueViolation
        self._transient_errors = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
        self._connect = psycopg.connect
        self._drafted = ""
        self._address = "postgresql" + url[url.index("://") :]

    @property
    def address(self) -> str:
        """Return the address of the server and the database, without a password."""
        parts = urlsplit(self._address)
        return f"{parts.hostname or ''}:{parts.port or 5432}{parts.path}"

    def prepare(self, fill: Callable[[Any], None]) -> None:
        """Do nothing: the server has the database already."""

    def connect(self) -> "Connection[tuple[Any, ...]]":
        """Open a connection, in autocommit."""
        return self._connect(self._address, autocommit=True)

    def statement(self, sql: str) -> str:
        """Translate SQL with `?` parameters to the form of the driver."""
        return sql.replace("?", "%s")

    def for_update(self, sql: str) -> str:
        """Extend a query so that no other transaction changes its rows until the end of this one."""
        return f"{sql} FOR UPDATE"

    def text_type(self, length: int) -> str:
        """Return the SQL type of a text column that sorts by code points."""
        return f'VARCHAR({length}) COLLATE "C"'

    def begin(self, connection: "Connection[tuple[Any, ...]]", *, durable: bool) -> None:
        """Begin a transaction that writes; with `durable`, its commit waits for the disk."""
        connection.execute("BEGIN" if durable else "BEGIN; SET LOCAL synchronous_commit = off")

    def begin_snapshot(self, connection: "Connection[tuple[Any, ...]]") -> None:
        """Begin a transaction that reads a snapshot of all tables."""
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def exclude_writers(self, connection: "Connection[tuple[Any, ...]]", tables: tuple[str, ...]) -> None:
        """Prevent other transactions from writing these tables until the end of this transaction."""
        connection.execute(f"LOCK TABLE {', '.join(tables)} IN SHARE ROW EXCLUSIVE MODE")

    def has_table(self, connection: "Connection[tuple[Any, ...]]", table: str) -> bool:
        """Return whether a table with that name exists."""
        # to_regclass may miss a table that another process has created while this one waited for the lock.
        found = "SELECT 1 FROM pg_catalog.pg_tables WHERE tablename = %s AND schemaname = ANY (current_schemas(false))"
        return bool(connection.execute(found, (table,)).fetchall())

    def lock_for_setting_up(self, connection: "Connection[tuple[Any, ...]]") -> None:
        """Prevent other processes from creating or changing tables until the end of this transaction."""
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SETTING_UP,))

    def connect_to_migrate(self) -> "Connection[tuple[Any, ...]]":
        """Open a connection that begins a transaction with its first statement."""
        return self._connect(self._address)

    def begin_to_migrate(self, connection: "Connection[tuple[Any, ...]]") -> None:
        """Begin a transaction in which only this process can change the tables."""
        self.lock_for_setting_up(connection)

    def roll_back(self, connection: "Connection[tuple[Any, ...]] | None") -> None:
        """Roll back the open transaction, unless the connection is closed."""
        if connection is not None and not self.is_lost(connection):
            connection.rollback()

    def is_lost(self, connection: "Connection[tuple[Any, ...]]") -> bool:
        """Return whether the connection is closed for good."""
        return connection.closed

    def is_broken(self, error: Exception) -> bool:  # noqa: ARG002 - part of the protocol
        """Return False: a connection that failed is closed."""
        return False

    def lock(self, name: str, *, shared: bool = False) -> "_ServerLock | None":
        """Lock a name on the server, on a separate connection; return None if another process has locked it."""
        function = "pg_try_advisory_lock_shared" if shared else "pg_try_advisory_lock"
        try:
            connection = self.connect()
            connection.execute(_KEEPALIVE)
            key = zlib.crc32(name.encode()) - (1 << 31)
            row = connection.execute(f"SELECT {function}(%s, %s)", (_LOCKS, key)).fetchone()
        except self.Error as refused:
            raise self.explain(refused, "cannot be reached") from None
        if row is not None and row[0]:
            return _ServerLock(self, connection)
        connection.close()
        return None

    def draft(self, folder: Path, name: str) -> "Postgres":  # noqa: ARG002 - the protocol's
        """Create a schema for the draft in this database."""
        schema = _schema(name)
        self._run(f"DROP SCHEMA IF EXISTS {schema} CASCADE", f"CREATE SCHEMA {schema}")
        draft = Postgres(f"{self._address}{'&' if '?' in self._address else '?'}options=-csearch_path%3D{schema}")
        draft._drafted = schema
        return draft

    def adopt(self, draft: "Postgres", aside: Path, *, keep: bool) -> None:
        """Replace the tables with those of the draft; the old ones move to the schema `aside`, or are dropped."""
        old, new = _schema(aside.name), draft._drafted
        with self._connection() as connection:

            def names(query: str) -> list[str]:
                return [str(row[0]) for row in connection.execute(query).fetchall()]

            moved = names(f"{_TABLES} = current_schema() AND table_name IN ({_TABLES} = '{new}')")
            added = names(f"{_TABLES} = '{new}'")
            (current,) = names("SELECT current_schema()")
        self._run(
            f"CREATE SCHEMA {old}",
            *(f"ALTER TABLE {current}.{table} SET SCHEMA {old}" for table in moved),
            *(f"ALTER TABLE {new}.{table} SET SCHEMA {current}" for table in added),
            *([] if keep else [f"DROP SCHEMA {old} CASCADE"]),
        )

    def discard(self, draft: "Postgres") -> None:
        """Delete the schema of a draft."""
        self._run(f"DROP SCHEMA IF EXISTS {draft._drafted} CASCADE")

    def _run(self, *statements: LiteralString) -> None:
        """Run statements in one transaction."""
        with self._connection() as connection:
            connection.execute("; ".join(["BEGIN", *statements, "COMMIT"]))

    @contextmanager
    def _connection(self) -> "Iterator[Connection[tuple[Any, ...]]]":
        try:
            with closing(self.connect()) as connection:
                yield connection
        except self.Error as refused:
            raise self.explain(refused, "cannot be restored") from None

    def explain(self, error: Exception, what: str = "refused") -> TidemillError:
        """Translate an error of the driver into an error for a user."""
        kind = Transient if isinstance(error, self._transient_errors) else TidemillError
        return kind(
            f"the ledger at {self.address} {what}: {(str(error).splitlines() or [type(error).__name__])[0]}",
            "check that the server is running and that you can write; the transaction was rolled back",
        )


class _ServerLock:
    """An advisory lock, which lasts as long as its connection."""

    def __init__(self, database: Postgres, connection: "Connection[tuple[Any, ...]]") -> None:
        self._database = database
        self._connection = connection
        _LOCKED.add(self)

    def leave(self) -> None:
        """Close the inherited socket in a forked child: the server keeps the lock while any process has it open."""
        with suppress(self._database.Error, OSError):
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, self._connection.fileno(), inheritable=False)
            os.close(nothing)

    def is_alive(self) -> bool:
        """Return whether the connection is open; raise `TidemillError` if the server has lost it."""
        try:
            self._connection.execute("SELECT 1")
        except self._database.Error as lost:
            raise self._database.explain(lost, "cannot be reached") from None
        return True

    def release(self) -> None:
        """Release the lock."""
        with suppress(self._database.Error):
            self._connection.close()


_LOCKED: WeakSet[_ServerLock] = WeakSet()


def _leave_locks() -> None:
    for lock in tuple(_LOCKED):
        lock.leave()


os.register_at_fork(after_in_child=_leave_locks)


def _schema(name: str) -> str:
    """Return the name of a schema for the name of a folder."""
    return re.sub(r"\W", "_", name).lower()
