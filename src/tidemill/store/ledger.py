"""The ledger: facts, in SQLite (write-ahead log) by default or PostgreSQL; any process writes it, briefly."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from sqlalchemy import Connection, MetaData, create_engine, event, inspect, text
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from tidemill.core.artifact import Artifact
from tidemill.core.audit import AuditEntry
from tidemill.core.check import Verdict
from tidemill.core.event import Event
from tidemill.core.release import Release
from tidemill.core.resources import SchemaVersion
from tidemill.core.route import Route
from tidemill.core.run import Run, StepRun
from tidemill.core.trigger import Job
from tidemill.errors import TidemillError
from tidemill.store.book import Book, define
from tidemill.store.sqlite import prepare

METADATA = MetaData()
_SETTING_UP = 0x71DE
_ARTIFACTS = define(METADATA, "artifacts", ("kind",))
_RUNS = define(METADATA, "runs", ("pipeline", "state", "model", "environment"))
_STEPS = define(METADATA, "steps", ("run", "key", "step"))
_VERDICTS = define(METADATA, "verdicts", ("check", "outcome", "action", "run", "model", "subject", "environment"))
_RELEASES = define(METADATA, "releases", ("name", "run", "package"), unique=(("name", "version"),))
_ROUTES = define(METADATA, "routes", ("model",), unique=(("environment", "model", "version"),))
_EVENTS = define(METADATA, "events", ("kind", "subject"), unique=(("environment", "dedupe_key"),))
_JOBS = define(METADATA, "jobs", ("state", "trigger", "model"), unique=(("environment", "trigger", "dedupe_key"),))
_SCHEMAS = define(METADATA, "schemas", ("source",), unique=(("source", "version"),))
_AUDIT = define(METADATA, "audit", ("actor", "action", "subject"))


class Ledger:
    """The books of a project, at a database URL."""

    writable: ClassVar[bool] = True

    def __init__(self, url: str) -> None:
        self.url = url
        self._local = threading.local()
        self._engine = create_engine(url)
        if self._engine.dialect.name == "sqlite":
            event.listen(self._engine, "connect", _prepare_sqlite)
            event.listen(self._engine, "begin", _begin_immediate)
        self._set_up()
        self.artifacts = Book(self, _ARTIFACTS, Artifact)
        self.runs = Book(self, _RUNS, Run)
        self.steps = Book(self, _STEPS, StepRun)
        self.verdicts = Book(self, _VERDICTS, Verdict)
        self.releases = Book(self, _RELEASES, Release)
        self.routes = Book(self, _ROUTES, Route)
        self.events = Book(self, _EVENTS, Event)
        self.jobs = Book(self, _JOBS, Job)
        self.schemas = Book(self, _SCHEMAS, SchemaVersion)
        self.audit = Book(self, _AUDIT, AuditEntry)

    def _set_up(self) -> None:
        try:
            with self._engine.connect().execution_options(reading=True) as connection:
                ready = inspect(connection).has_table("audit")
            if not ready:
                with self._engine.begin() as connection:
                    if connection.dialect.name == "postgresql":
                        # Others may open it for the first time at this moment: one creates, they find it done.
                        connection.execute(text(f"SELECT pg_advisory_xact_lock({_SETTING_UP})"))
                    METADATA.create_all(connection)
        except SQLAlchemyError as refused:
            raise TidemillError(
                f"the ledger at {self._place} cannot be opened: {_first_line(refused)}",
                "check that the path or server is there and writable for you",
            ) from None

    @property
    def _place(self) -> str:
        """Where it is, without a password."""
        url = self._engine.url
        return str(Path(url.database or "") if self._engine.dialect.name == "sqlite" else url)

    @contextmanager
    def transaction(self, *, durable: bool = False) -> Iterator[Connection]:
        """One transaction for all that this thread writes inside; a transaction within one joins it.

        `durable` returns only once the disk has it.
        """
        current = getattr(self._local, "connection", None)
        if current is not None:
            yield current
            return
        with self._engine.connect() as connection:
            connection.info["durable"] = durable
            with _explained(self._place), connection.begin():
                self._local.connection = connection
                try:
                    yield connection
                finally:
                    self._local.connection = None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection that only reads; inside a transaction, the transaction's."""
        current = getattr(self._local, "connection", None)
        if current is not None:
            yield current
            return
        with self._engine.connect() as connection, _explained(self._place):
            yield connection.execution_options(reading=True)

    def close(self) -> None:
        """Give all connections back."""
        self._engine.dispose()


@contextmanager
def _explained(place: str) -> Iterator[None]:
    try:
        yield
    except OperationalError as refused:
        raise TidemillError(
            f"the ledger at {place} refused: {_first_line(refused)}",
            "check that it is there, with free space and writable for you; nothing half-written was kept",
        ) from None


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", error)).splitlines()[0]


def _prepare_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None
    prepare(connection)
    connection.execute("PRAGMA foreign_keys=ON")


def _begin_immediate(connection: Connection) -> None:
    if connection.get_execution_options().get("reading"):
        return
    level = "FULL" if connection.info.get("durable") else "NORMAL"
    connection.exec_driver_sql(f"PRAGMA synchronous={level}")
    connection.exec_driver_sql("BEGIN IMMEDIATE")
