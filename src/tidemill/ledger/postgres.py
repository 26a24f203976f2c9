"""A ledger's database on a PostgreSQL server."""

import re
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString
from urllib.parse import urlsplit

from tidemill.errors import MissingExtra, TidemillError, Transient

if TYPE_CHECKING:
    from psycopg import Connection

_SETTING_UP = 0x71DE
_LOCKS = 0x71E0
# A machine that vanished sends nothing: the server notices within half a minute.
_KEEPALIVE = "SET tcp_keepalives_idle = 10; SET tcp_keepalives_interval = 5; SET tcp_keepalives_count = 3"
_TABLES = "SELECT table_name FROM information_schema.tables WHERE table_schema"


class Postgres:
    """A database on a server, by its URL."""

    dialect = "postgresql"
    by_key = ""
    file = None

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError:
            raise MissingExtra("psycopg", "postgres") from None
        self.Error: type[Exception] = psycopg.Error
        self.Taken: type[Exception] = psycopg.errors.UniqueViolation
        self._again = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
        self._connect = psycopg.connect
        self._drafted = ""
        self._address = "postgresql" + url[url.index("://") :]

    @property
    def place(self) -> str:
        """Where it is, without a password."""
        parts = urlsplit(self._address)
        return f"{parts.hostname or ''}:{parts.port or 5432}{parts.path}"

    def connect(self) -> "Connection[tuple[Any, ...]]":
        """A fresh connection, in autocommit."""
        return self._connect(self._address, autocommit=True)

    def statement(self, sql: str) -> str:
        """SQL with `?` for each parameter, as this driver takes it."""
        return sql.replace("?", "%s")

    def for_update(self, sql: str) -> str:
        """A query whose rows other transactions change only after the end of this one."""
        return f"{sql} FOR UPDATE"

    def text(self, length: int) -> str:
        """The type of a text column that is ordered by its code points."""
        return f'VARCHAR({length}) COLLATE "C"'

    def begin(self, connection: "Connection[tuple[Any, ...]]", *, durable: bool) -> None:
        """Begin a transaction that writes; where it is `durable`, its commit waits for the disk."""
        connection.execute("BEGIN" if durable else "BEGIN; SET LOCAL synchronous_commit = off")

    def begin_snapshot(self, connection: "Connection[tuple[Any, ...]]") -> None:
        """Begin a transaction that reads everything as of one moment."""
        connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")

    def exclude_writers(self, connection: "Connection[tuple[Any, ...]]", tables: tuple[str, ...]) -> None:
        """Until the end of the transaction, let no other one write these tables."""
        connection.execute(f"LOCK TABLE {', '.join(tables)} IN SHARE ROW EXCLUSIVE MODE")

    def has(self, connection: "Connection[tuple[Any, ...]]", table: str) -> bool:
        """Whether there is a table of that name."""
        # Not to_regclass: it may not see yet what another process has created while this one waited for the lock.
        found = "SELECT 1 FROM pg_catalog.pg_tables WHERE tablename = %s AND schemaname = ANY (current_schemas(false))"
        return bool(connection.execute(found, (table,)).fetchall())

    def lock_for_setting_up(self, connection: "Connection[tuple[Any, ...]]") -> None:
        """Let one process alone create or change tables in this transaction."""
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SETTING_UP,))

    def connect_to_migrate(self) -> "Connection[tuple[Any, ...]]":
        """A fresh connection that begins a transaction with its first statement."""
        return self._connect(self._address)

    def begin_to_migrate(self, connection: "Connection[tuple[Any, ...]]") -> None:
        """Begin the transaction in which this process alone changes the tables."""
        self.lock_for_setting_up(connection)

    def roll_back(self, connection: "Connection[tuple[Any, ...]] | None") -> None:
        """Undo the open transaction, if the server has not done so by going away."""
        if connection is not None and not self.lost(connection):
            connection.rollback()

    def lost(self, connection: "Connection[tuple[Any, ...]]") -> bool:
        """Whether the connection is gone for good."""
        return connection.closed

    def lock(self, name: str, *, shared: bool = False) -> "_ServerLock | None":
        """Lock a name on the server, on a connection of its own; None where another process has locked it."""
        function = "pg_try_advisory_lock_shared" if shared else "pg_try_advisory_lock"
        try:
            connection = self.connect()
            connection.execute(_KEEPALIVE)
            key = zlib.crc32(name.encode()) - (1 << 31)
            row = connection.execute(f"SELECT {function}(%s, %s)", (_LOCKS, key)).fetchone()
        except self.Error as refused:
            raise self.explain(refused, "does not answer") from None
        if row is not None and row[0]:
            return _ServerLock(self, connection)
        connection.close()
        return None

    def draft(self, folder: Path, name: str) -> "Postgres":  # noqa: ARG002 - the protocol's
        """An empty database beside this one: a schema of its own."""
        schema = _schema(name)
        self._run(f"DROP SCHEMA IF EXISTS {schema} CASCADE", f"CREATE SCHEMA {schema}")
        draft = Postgres(f"{self._address}{'&' if '?' in self._address else '?'}options=-csearch_path%3D{schema}")
        draft._drafted = schema
        return draft

    def adopt(self, draft: "Postgres", aside: Path, *, keep: bool) -> None:
        """Move the draft's tables to the place of these, which go to the schema `aside`, or are dropped."""
        old, new = _schema(aside.name), draft._drafted
        with self._connection() as connection:

            def names(query: str) -> list[str]:
                return [str(row[0]) for row in connection.execute(query).fetchall()]

            moved = names(f"{_TABLES} = current_schema() AND table_name IN ({_TABLES} = '{new}')")
            added = names(f"{_TABLES} = '{new}'")
            (here,) = names("SELECT current_schema()")
        self._run(
            f"CREATE SCHEMA {old}",
            *(f"ALTER TABLE {here}.{table} SET SCHEMA {old}" for table in moved),
            *(f"ALTER TABLE {new}.{table} SET SCHEMA {here}" for table in added),
            *([] if keep else [f"DROP SCHEMA {old} CASCADE"]),
        )

    def discard(self, draft: "Postgres") -> None:
        """Delete what is left of a draft."""
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
            raise self.explain(refused, "cannot be restored into") from None

    def explain(self, error: Exception, what: str = "refused") -> TidemillError:
        """The error to report to a user for one of the driver's."""
        kind = Transient if isinstance(error, self._again) else TidemillError
        return kind(
            f"the ledger at {self.place} {what}: {(str(error).splitlines() or [type(error).__name__])[0]}",
            "check that the server is there and lets you write; nothing half-written was kept",
        )


class _ServerLock:
    """An advisory lock, which lives as long as its connection."""

    def __init__(self, database: Postgres, connection: "Connection[tuple[Any, ...]]") -> None:
        self._database = database
        self._connection = connection

    def is_alive(self) -> bool:
        """Whether the connection is; raises `TidemillError` where the server has lost it."""
        try:
            self._connection.execute("SELECT 1")
        except self._database.Error as lost:
            raise self._database.explain(lost, "does not answer") from None
        return True

    def release(self) -> None:
        """Open it."""
        with suppress(self._database.Error):
            self._connection.close()


def _schema(name: str) -> str:
    """The name of a schema after that of a folder."""
    return re.sub(r"\W", "_", name).lower()
