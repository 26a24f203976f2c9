"""The ledger: the records of a project in SQLite (the default) or PostgreSQL."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property, partial
from typing import Any, ClassVar

from tidemill.core.artifact import Artifact
from tidemill.core.audit import AuditEntry
from tidemill.core.build import Build
from tidemill.core.check import Verdict
from tidemill.core.deployment import Deployment
from tidemill.core.event import Event
from tidemill.core.release import Release
from tidemill.core.route import Route
from tidemill.core.run import Run, StepRun
from tidemill.core.schema import SchemaVersion
from tidemill.core.token import Token
from tidemill.core.trigger import Job
from tidemill.errors import TidemillError
from tidemill.ledger.audit import AuditBook
from tidemill.ledger.book import SqlBook, SqlBookReader
from tidemill.ledger.connections import Connections
from tidemill.ledger.copying import export_tables, load_book
from tidemill.ledger.database import Database, open_connection, open_database
from tidemill.ledger.schema import create_or_upgrade
from tidemill.ledger.seals import SealFault, find_faults, fold_seals, write_seals
from tidemill.ledger.table import Table

_ARTIFACTS = Table("artifacts", ("kind",))
_RUNS = Table("runs", ("pipeline", "state", "model", "environment"))
_STEPS = Table("steps", ("run", "key", "step"))
_VERDICTS = Table("verdicts", ("check", "outcome", "action", "run", "model", "subject", "environment"))
_RELEASES = Table("releases", ("name", "run", "package"), unique=(("name", "version"),))
_ROUTES = Table("routes", ("model",), unique=(("environment", "model", "version"),))
_EVENTS = Table("events", ("kind", "subject"), unique=(("environment", "dedupe_key"),))
_JOBS = Table("jobs", ("state", "trigger", "model"), unique=(("environment", "trigger", "dedupe_key"),))
_SCHEMAS = Table("schemas", ("source",), unique=(("source", "version"),))
_AUDIT = Table("audit", ("actor", "action", "subject"), unique=(("number",),))
_BUILDS = Table("builds", ("commit", "branch", "state", "run"), unique=(("project", "number"),))
_DEPLOYMENTS = Table("deployments", ("build", "state"), unique=(("environment", "version"),))
_TOKENS = Table("tokens", ("owner", "digest"), unique=(("name",),))
_REFERRING_TO_BLOBS = ("artifacts", "steps", "runs", "releases", "builds")
_DELIVERY = (_BUILDS, _DEPLOYMENTS, _TOKENS)
TABLES = (_ARTIFACTS, _RUNS, _STEPS, _VERDICTS, _RELEASES, _ROUTES, _EVENTS, _JOBS, _SCHEMAS, _AUDIT, *_DELIVERY)


class Ledger:
    """The books of a project, in a database that is opened by its URL."""

    writable: ClassVar[bool] = True
    volatile: ClassVar[bool] = True

    def __init__(self, database: Database | str, *, create: bool = True, refusal: TidemillError | None = None) -> None:
        """Open the ledger; only with `create`, a new database gets its tables. With a `refusal`, nothing is written."""
        self.database = open_database(database) if isinstance(database, str) else database
        self._connections = connections = Connections(self.database)
        self.artifacts = SqlBook(connections, _ARTIFACTS, Artifact)
        self.runs = SqlBook(connections, _RUNS, Run)
        self.steps = SqlBook(connections, _STEPS, StepRun)
        self.verdicts = SqlBook(connections, _VERDICTS, Verdict)
        self.releases = SqlBook(connections, _RELEASES, Release)
        self.routes = SqlBook(connections, _ROUTES, Route)
        self.events = SqlBook(connections, _EVENTS, Event)
        self.jobs = SqlBook(connections, _JOBS, Job)
        self.schemas = SqlBook(connections, _SCHEMAS, SchemaVersion)
        self.audit = AuditBook(connections, _AUDIT, AuditEntry)
        self.builds = SqlBook(connections, _BUILDS, Build)
        self.deployments = SqlBook(connections, _DEPLOYMENTS, Deployment)
        self.tokens = SqlBook(connections, _TOKENS, Token)
        connections.on_commit = partial(write_seals, self.database)
        create_or_upgrade(connections, TABLES, self._fill_index, create=create)
        connections.refusal = refusal

    def _fill_index(self, connection: Any) -> None:
        """Index the records of an earlier version; artifacts are not indexed."""
        for name, book in self.books.items():
            if name != _ARTIFACTS.name:
                book.fill_index(connection)

    @property
    def books(self) -> dict[str, SqlBook[Any]]:
        """Return the books by name."""
        return {table.name: getattr(self, table.name) for table in TABLES}

    @cached_property
    def reader(self) -> "LedgerReader":
        """Return the same books, to read."""
        return LedgerReader(self)

    def transaction(self, *, durable: bool = False) -> AbstractContextManager[Any]:
        """Open a transaction of this thread; a transaction inside another joins it.

        With `durable`, the commit waits for the disk.
        """
        return self._connections.transaction(durable=durable)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Open a durable transaction in which no other process can write a record that refers to blobs."""
        with self.transaction(durable=True) as connection:
            self.database.exclude_writers(connection, _REFERRING_TO_BLOBS)
            yield

    def tidy(self) -> None:
        """Replace the many seals of a book by one."""
        with self.transaction() as connection:
            fold_seals(connection, self.database)

    def verify(self) -> Iterator[SealFault]:
        """Iterate over the differences between the records and what Tidemill wrote, in one snapshot."""
        if not self.database.address:  # in the memory of this thread
            yield from find_faults(self._connections.connection(), list(self.books.values()))
            return
        with open_connection(self.database, "cannot be read") as connection:
            self.database.begin_snapshot(connection)
            yield from find_faults(connection, list(self.books.values()))

    def export(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Iterate over the books with their records as JSON lines, from one snapshot; read each before the next."""
        return export_tables(self.database, [table.name for table in TABLES])

    def load(self, name: str, lines: Iterable[bytes], update: Callable[[Any], Any]) -> int:
        """Add exported records to an empty book, each changed by `update`; return the number of records."""
        return load_book(self.books[name], lines, update)

    def close(self) -> None:
        """Close all connections."""
        self._connections.close()


class LedgerReader:
    """The books of a ledger, to read."""

    writable: ClassVar[bool] = False
    volatile: ClassVar[bool] = True

    def __init__(self, ledger: Ledger) -> None:
        self.artifacts = SqlBookReader(ledger.artifacts)
        self.runs = SqlBookReader(ledger.runs)
        self.steps = SqlBookReader(ledger.steps)
        self.verdicts = SqlBookReader(ledger.verdicts)
        self.releases = SqlBookReader(ledger.releases)
        self.routes = SqlBookReader(ledger.routes)
        self.events = SqlBookReader(ledger.events)
        self.jobs = SqlBookReader(ledger.jobs)
        self.schemas = SqlBookReader(ledger.schemas)
        self.audit = SqlBookReader(ledger.audit)
        self.builds = SqlBookReader(ledger.builds)
        self.deployments = SqlBookReader(ledger.deployments)
        self.tokens = SqlBookReader(ledger.tokens)
