"""A ledger's database on a PostgreSQL server."""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tidemill.errors import MissingExtra, TidemillError, Transient

if TYPE_CHECKING:
    from psycopg import Connection

_SETTING_UP = 0x71DE


class Postgres:
    """A database on a server, by its URL."""

    dialect = "postgresql"

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError:
            raise MissingExtra("psycopg", "postgres") from None
        self.Error: type[Exception] = psycopg.Error
        self.Taken: type[Exception] = psycopg.errors.UniqueViolation
        self._again = (psycopg.errors.DeadlockDetected, psycopg.errors.SerializationFailure)
        self._connect = psycopg.connect
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

    def begin(self, connection: "Connection[tuple[Any, ...]]", *, durable: bool) -> None:
        """Begin a transaction that writes; where it is `durable`, its commit waits for the disk."""
        connection.execute("BEGIN" if durable else "BEGIN; SET LOCAL synchronous_commit = off")

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

    def explain(self, error: Exception, what: str = "refused") -> TidemillError:
        """The error to tell a user for one of the driver's."""
        kind = Transient if isinstance(error, self._again) else TidemillError
        return kind(
            f"the ledger at {self.place} {what}: {(str(error).splitlines() or [type(error).__name__])[0]}",
            "check that the server is there and lets you write; nothing half-written was kept",
        )
