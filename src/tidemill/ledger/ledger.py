"""The ledger: facts, in SQLite (write-ahead log) by default or PostgreSQL; any process writes it, briefly."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cached_property
from typing import Any, ClassVar

from tidemill.core.artifact import Artifact
from tidemill.core.audit import AuditEntry
from tidemill.core.check import Verdict
from tidemill.core.event import Event
from tidemill.core.release import Release
from tidemill.core.route import Route
from tidemill.core.run import Run, StepRun
from tidemill.core.schema import SchemaVersion
from tidemill.core.trigger import Job
from tidemill.ledger.book import SqlBook, SqlBookReader
from tidemill.ledger.connections import Connections
from tidemill.ledger.copying import exported, loaded
from tidemill.ledger.database import Database, database_at
from tidemill.ledger.schema import settle
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
_AUDIT = Table("audit", ("actor", "action", "subject"))
_NAMING_BLOBS = ("artifacts", "steps", "runs", "releases")
TABLES = (_ARTIFACTS, _RUNS, _STEPS, _VERDICTS, _RELEASES, _ROUTES, _EVENTS, _JOBS, _SCHEMAS, _AUDIT)


class Ledger:
    """The books of a project, in a database or at the URL of one."""

    writable: ClassVar[bool] = True
    volatile: ClassVar[bool] = True

    def __init__(self, database: Database | str) -> None:
        self.database = database_at(database) if isinstance(database, str) else database
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
        self.audit = SqlBook(connections, _AUDIT, AuditEntry)
        settle(connections, TABLES, self._fill)

    def _fill(self, connection: Any) -> None:
        """Index the records of an earlier version; of artifacts nothing is indexed."""
        for name, book in self.books.items():
            if name != _ARTIFACTS.name:
                book.fill(connection)

    @property
    def books(self) -> dict[str, SqlBook[Any]]:
        """Every book by its name."""
        return {table.name: getattr(self, table.name) for table in TABLES}

    @cached_property
    def reader(self) -> "LedgerReader":
        """The same books for those who only read them."""
        return LedgerReader(self)

    def transaction(self, *, durable: bool = False) -> AbstractContextManager[Any]:
        """One transaction for all that this thread writes inside; a transaction within one joins it.

        `durable` returns only once the disk has it.
        """
        return self._connections.transaction(durable=durable)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """A durable transaction beside which nobody writes a record that names blobs."""
        with self.transaction(durable=True) as connection:
            self.database.exclude_writers(connection, _NAMING_BLOBS)
            yield

    def export(self) -> Iterator[tuple[str, Iterator[bytes]]]:
        """Each book with its records as JSON lines, all as of one moment; read a book before the next is asked for."""
        return exported(self.database, [table.name for table in TABLES])

    def load(self, name: str, lines: Iterable[bytes], update: Callable[[Any], Any]) -> int:
        """Add exported records to an empty book, each as `update` returns it; their number."""
        return loaded(self.books[name], lines, update)

    def close(self) -> None:
        """Give all connections back."""
        self._connections.close()


class LedgerReader:
    """The books of a ledger without anything that writes."""

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
