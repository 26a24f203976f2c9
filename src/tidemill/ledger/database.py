"""Database: the interface of a kind of database, and a function that opens one by its URL."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from tidemill.errors import InputError, TidemillError
from tidemill.ledger.postgres import Postgres
from tidemill.ledger.sqlite import Sqlite


class Lock(Protocol):
    """A lock between machines; it is released when its process stops."""

    def is_alive(self) -> bool:
        """Return whether it is still locked; raise `TidemillError` if the server has lost the connection."""
        ...

    def release(self) -> None:
        """Release the lock."""
        ...


class Database(Protocol):
    """The ledger's database. Another kind is a class with these methods, registered by the scheme of its URL."""

    dialect: str
    Error: type[Exception]
    UniqueViolation: type[Exception]

    @property
    def address(self) -> str:
        """Return the file or the address of the server, without a password."""
        ...

    @property
    def file(self) -> Path | None:
        """Return the file of the database; None on a server."""
        ...

    def prepare(self, fill: Callable[[Any], None]) -> None:
        """Create the file of a new database with the tables that `fill` makes; do nothing on a server."""
        ...

    def connect(self) -> Any:
        """Open a connection, in autocommit; never create a file."""
        ...

    def statement(self, sql: str) -> str:
        """Translate SQL with `?` parameters to the form of the driver."""
        ...

    def for_update(self, sql: str) -> str:
        """Extend a query so that no other transaction changes its rows until the end of this one."""
        ...

    def text_type(self, length: int) -> str:
        """Return the SQL type of a text column that sorts by code points."""
        ...

    @property
    def table_option(self) -> str:
        """Return the option of a table that is stored in the order of its primary key, or an empty text."""
        ...

    def begin(self, connection: Any, *, durable: bool) -> None:
        """Begin a transaction that writes; with `durable`, its commit waits for the disk."""
        ...

    def begin_snapshot(self, connection: Any) -> None:
        """Begin a transaction that reads a snapshot of all tables."""
        ...

    def exclude_writers(self, connection: Any, tables: tuple[str, ...]) -> None:
        """Prevent other transactions from writing these tables until the end of this transaction."""
        ...

    def has_table(self, connection: Any, table: str) -> bool:
        """Return whether a table with that name exists."""
        ...

    def lock_for_setting_up(self, connection: Any) -> None:
        """Prevent other processes from creating or changing tables until the end of this transaction."""
        ...

    def connect_to_migrate(self) -> Any:
        """Open a connection that waits while another process changes the tables."""
        ...

    def begin_to_migrate(self, connection: Any) -> None:
        """Begin a transaction in which only this process can change the tables."""
        ...

    def roll_back(self, connection: Any) -> None:
        """Roll back the open transaction, unless the database has already done it."""
        ...

    def is_lost(self, connection: Any, /) -> bool:
        """Return whether the connection must be opened again; raise `StoreMissing` if the database is missing."""
        ...

    def is_broken(self, error: Exception) -> bool:
        """Return whether a connection is useless after an error of the driver."""
        ...

    def lock(self, name: str, *, shared: bool = False) -> Lock | None:
        """Lock a name between the machines that share this database; return None if another process has locked it."""
        ...

    def draft(self, folder: Path, name: str) -> "Database":
        """Create an empty database to fill and then adopt; `folder` is the folder of a database file."""
        ...

    def adopt(self, draft: Any, aside: Path, *, keep: bool) -> None:
        """Replace the content of this database with the content of a draft; `keep` moves the old content aside.

        `aside` is the folder for the old file; on a server, its name is the name of a schema.
        """
        ...

    def discard(self, draft: Any) -> None:
        """Delete the remains of a draft."""
        ...

    def explain(self, error: Exception, what: str = "refused") -> TidemillError:
        """Translate an error of the driver into an error for a user."""
        ...


def open_database(url: str) -> Database:
    """Open the database at a URL; raise `InputError` if its scheme is not `sqlite:` or `postgresql:`."""
    if url.startswith("sqlite://"):
        return Sqlite(url)
    if url.startswith(("postgresql://", "postgresql+psycopg://")):
        return Postgres(url)
    raise InputError(
        f"a ledger cannot have a URL with the scheme {url.partition(':')[0]}:",
        "use sqlite:///FILE or postgresql://USER@HOST/DATABASE",
    )


@contextmanager
def open_connection(database: Database, what: str) -> Iterator[Any]:
    """Open a connection for the block, in autocommit; the message of an error contains `what` failed."""
    try:
        connection = database.connect()
        try:
            yield connection
        finally:
            connection.close()
    except database.Error as refused:
        raise database.explain(refused, what) from None
