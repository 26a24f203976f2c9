"""The ledger: facts, in SQLite (write-ahead log) by default or PostgreSQL; any process writes it, briefly."""

from contextlib import AbstractContextManager
from typing import Any, ClassVar

from tidemill.core.artifact import Artifact
from tidemill.core.audit import AuditEntry
from tidemill.core.check import Verdict
from tidemill.core.event import Event
from tidemill.core.release import Release
from tidemill.core.resources import SchemaVersion
from tidemill.core.route import Route
from tidemill.core.run import Run, StepRun
from tidemill.core.trigger import Job
from tidemill.store.book import Book
from tidemill.store.connections import Connections, database_at
from tidemill.store.table import Table

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
TABLES = (_ARTIFACTS, _RUNS, _STEPS, _VERDICTS, _RELEASES, _ROUTES, _EVENTS, _JOBS, _SCHEMAS, _AUDIT)


class Ledger:
    """The books of a project, at a database URL."""

    writable: ClassVar[bool] = True

    def __init__(self, url: str) -> None:
        self.url = url
        self._connections = connections = Connections(database_at(url))
        self._set_up()
        self.artifacts = Book(connections, _ARTIFACTS, Artifact)
        self.runs = Book(connections, _RUNS, Run)
        self.steps = Book(connections, _STEPS, StepRun)
        self.verdicts = Book(connections, _VERDICTS, Verdict)
        self.releases = Book(connections, _RELEASES, Release)
        self.routes = Book(connections, _ROUTES, Route)
        self.events = Book(connections, _EVENTS, Event)
        self.jobs = Book(connections, _JOBS, Job)
        self.schemas = Book(connections, _SCHEMAS, SchemaVersion)
        self.audit = Book(connections, _AUDIT, AuditEntry)

    def _set_up(self) -> None:
        database = self._connections.database
        try:
            if _is_ready(self._connections.connection(), database.Error):
                return
        except database.Error as refused:
            raise database.explain(refused, "cannot be opened") from None
        with self._connections.transaction(durable=True) as connection:
            database.lock_for_setting_up(connection)
            connection.execute("SAVEPOINT looking")
            ready = _is_ready(connection, database.Error)
            connection.execute("ROLLBACK TO looking")
            if not ready:
                for table in TABLES:
                    for statement in table.definition():
                        connection.execute(statement)

    def transaction(self, *, durable: bool = False) -> AbstractContextManager[Any]:
        """One transaction for all that this thread writes inside; a transaction within one joins it.

        `durable` returns only once the disk has it.
        """
        return self._connections.transaction(durable=durable)

    def close(self) -> None:
        """Give all connections back."""
        self._connections.close()


def _is_ready(connection: Any, error: type[Exception]) -> bool:
    try:
        connection.execute("SELECT 1 FROM audit LIMIT 1").fetchall()
    except error as refused:
        if "no such table" in str(refused) or "does not exist" in str(refused):
            return False
        raise
    return True
