"""Database: what one kind of database does in its own way, and how the ledger reaches it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from tidemill.errors import InputError, TidemillError
from tidemill.ledger.postgres import Postgres
from tidemill.ledger.sqlite import Sqlite


class Lock(Protocol):
    """A lock between machines; it opens when its process ends."""

    def is_alive(self) -> bool:
        """Whether it is still locked; raises `TidemillError` where the server has lost it."""
        ...

    def release(self) -> None:
        """Open it."""
        ...


class Database(Protocol):
    """The ledger's database. A third kind is one class with these methods, registered by its URL's scheme."""

    dialect: str
    Error: type[Exception]
    Taken: type[Exception]

    @property
    def place(self) -> str:
        """Where it is, without a password."""
        ...

    @property
    def file(self) -> Path | None:
        """The file that contains all of it; None on a server."""
        ...

    def connect(self) -> Any:
        """A fresh connection, in autocommit."""
        ...

    def statement(self, sql: str) -> str:
        """SQL with `?` for each parameter, as its driver takes it."""
        ...

    def for_update(self, sql: str) -> str:
        """A query whose rows no other transaction changes until the end of this one."""
        ...

    def text(self, length: int) -> str:
        """The type of a text column that is ordered by its code points."""
        ...

    @property
    def by_key(self) -> str:
        """The option of a table that is stored in the order of its primary key; empty where there is none."""
        ...

    def begin(self, connection: Any, *, durable: bool) -> None:
        """Begin a transaction that writes; where it is `durable`, its commit waits for the disk."""
        ...

    def begin_snapshot(self, connection: Any) -> None:
        """Begin a transaction that reads everything as of one moment."""
        ...

    def exclude_writers(self, connection: Any, tables: tuple[str, ...]) -> None:
        """Until the end of the transaction, let no other one write these tables."""
        ...

    def has(self, connection: Any, table: str) -> bool:
        """Whether there is a table of that name."""
        ...

    def lock_for_setting_up(self, connection: Any) -> None:
        """Let one process alone create or change tables in this transaction."""
        ...

    def connect_to_migrate(self) -> Any:
        """A fresh connection that waits as long as another process may take to change the tables."""
        ...

    def begin_to_migrate(self, connection: Any) -> None:
        """Begin the transaction in which this process alone changes the tables."""
        ...

    def roll_back(self, connection: Any) -> None:
        """Undo the open transaction, if the database has not done so."""
        ...

    def lost(self, connection: Any, /) -> bool:
        """Whether the connection is gone for good."""
        ...

    def lock(self, name: str, *, shared: bool = False) -> Lock | None:
        """Lock a name between the machines that share this database; None where another process has locked it."""
        ...

    def draft(self, folder: Path, name: str) -> "Database":
        """An empty database beside this one, to be filled and then adopted; `folder` is for one that is a file."""
        ...

    def adopt(self, draft: Any, aside: Path, *, keep: bool) -> None:
        """Replace the content of this database by that of a draft; `keep` moves what was there aside.

        `aside` is a folder for one that is a file; its name serves on a server.
        """
        ...

    def discard(self, draft: Any) -> None:
        """Delete what is left of a draft."""
        ...

    def explain(self, error: Exception, what: str = "refused") -> TidemillError:
        """The error to report to a user for one of the driver's."""
        ...


def database_at(url: str) -> Database:
    """The database that a URL names; raises `InputError` for another kind than `sqlite:` and `postgresql:`."""
    if url.startswith("sqlite://"):
        return Sqlite(url)
    if url.startswith(("postgresql://", "postgresql+psycopg://")):
        return Postgres(url)
    raise InputError(
        f"no ledger can be kept at {url.partition(':')[0]}:", "give sqlite:///FILE or postgresql://USER@HOST/DATABASE"
    )


@contextmanager
def connected(database: Database, what: str) -> Iterator[Any]:
    """A connection for the block alone, in autocommit; an error of the database says `what` could not be done."""
    try:
        connection = database.connect()
        try:
            yield connection
        finally:
            connection.close()
    except database.Error as refused:
        raise database.explain(refused, what) from None
