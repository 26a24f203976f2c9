"""What a step may ask for by the type of a parameter: effects are asked for, never reached for.

A resource is opened from its URL in the process that runs the step. It is outside the cache key, but for
what the policy says of it (`declared`); a step with a writable one is never cached, and is idempotent by its run and
name.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

from msgspec import Struct

from tidemill.core.artifact import Artifact
from tidemill.core.audit import AuditEntry
from tidemill.core.check import Verdict
from tidemill.core.event import Event
from tidemill.core.feature import FeatureSet, FeatureView
from tidemill.core.policy import Source
from tidemill.core.release import Release
from tidemill.core.route import Route
from tidemill.core.run import Run, StepRun
from tidemill.core.schema import Schema
from tidemill.core.trigger import Job

if TYPE_CHECKING:
    import polars as pl

    from tidemill.core.metric import Metric, MetricVersion
    from tidemill.core.model import Model

T = TypeVar("T", bound=Struct)


class Comparison(Struct, frozen=True):
    """A metric compared with a number, such as test_log_loss < 0.5; `sign` is one of <=, >=, <, > and =."""

    name: str
    sign: str
    value: float


class Book(Protocol[T]):
    """The records of one noun, by id: add, get, find, change."""

    def add(self, record: T) -> T:
        """Write a new record; raises `Conflict` where one of its unique keys is taken."""
        ...

    def get(self, identifier: str) -> T:
        """The record of that id, or of the only id that begins like it (8 characters or more); raises `NotFound`."""
        ...

    def find(
        self,
        *,
        limit: int | None = None,
        newest: bool = False,
        text: str = "",
        tag: str = "",
        metric: Comparison | None = None,
        linked: str = "",
        after: str = "",
        before: str = "",
        **equals: Any,
    ) -> list[T]:
        """The records that fit all that is given, by their ids: oldest first unless `newest`, at most `limit`.

        `equals` are values of indexed columns. `text` is words, letter case aside; each must be the beginning of a
        word of the record: of its id, names, state, cause, parameters, error, tags, metrics' names and releases, but
        not of a run's graph or software; steps and artifacts have no words. `tag` is `name=value`. `linked` finds
        steps by an artifact that they took or gave (`in:DIGEST`, `out:DIGEST`) and routes by a release
        (`release:late/3`). A page goes on `before` or `after` the last id of the page before it.
        """
        ...

    def values(self, column: str, **equals: Any) -> set[str]:
        """The distinct values of an indexed column among those records."""
        ...

    def change(self, identifier: str, update: Callable[[T], T]) -> T:
        """Replace a record by `update(record)`, by compare-and-swap: no change of another process is lost.

        Raises `NotFound`, and `Conflict` where one of its unique keys is taken; a transaction around it can go on.
        """
        ...


class SchemaVersion(Struct, frozen=True, kw_only=True):
    """A schema as it was accepted: `reason` and `by` say why and by whom."""

    id: str
    source: str
    version: int
    schema: Schema
    accepted: datetime
    by: str = "inferred"
    reason: str = ""


class Books(Protocol):
    """The ledger: one book for each noun."""

    writable: ClassVar[bool] = True

    @property
    def artifacts(self) -> Book[Artifact]: ...
    @property
    def runs(self) -> Book[Run]: ...
    @property
    def steps(self) -> Book[StepRun]: ...
    @property
    def verdicts(self) -> Book[Verdict]: ...
    @property
    def releases(self) -> Book[Release]: ...
    @property
    def routes(self) -> Book[Route]: ...
    @property
    def events(self) -> Book[Event]: ...
    @property
    def jobs(self) -> Book[Job]: ...
    @property
    def schemas(self) -> Book[SchemaVersion]: ...
    @property
    def audit(self) -> Book[AuditEntry]: ...

    def transaction(self, *, durable: bool = False) -> AbstractContextManager[Any]:
        """All or nothing; `durable` waits for the disk (releases, routes, approvals, audit, events)."""
        ...


class Batch(Struct, frozen=True, kw_only=True):
    """Rows that arrived together: `id` changes when their bytes change.

    A batch with the `path` of an earlier one replaces its rows. A path that ends in `#7+2` is the second part after the
    seventh, which wrote the whole place anew: it ends whatever the parts before the seventh brought.

    `texts` are the columns to be read as they are written where the form has no types (CSV); None leaves it to them.
    """

    id: str
    source: str
    known_at: datetime
    path: str
    texts: tuple[str, ...] | None = None


class Sources(Protocol):
    """The project's sources, as far as they are known now."""

    writable: ClassVar[bool] = False

    @property
    def declared(self) -> str:
        """What the policy says the rows mean, for cache keys: where they are is not in it."""
        ...

    def definition(self, source: str) -> Source:
        """What the policy says of a source; raises `NotFound`."""
        ...

    def schema(self, source: str) -> Schema | None:
        """The schema that the project's file declares, if it does."""
        ...

    def batches(self, source: str, until: datetime) -> Sequence[Batch]:
        """The batches that had arrived by `until`, oldest first."""
        ...

    def read(self, batch: Batch) -> "pl.DataFrame":
        """The rows of a batch."""
        ...

    def history(self, view: FeatureView, until: datetime) -> "pl.DataFrame":
        """The rows of a view's source, with `_time` and `_known_at`, as far as known by `until`."""
        ...


class TableReader(Protocol):
    """Tables with history: a version never changes."""

    writable: ClassVar[bool] = False

    def read(self, table: str, version: int, columns: Sequence[str] | None = None) -> "pl.DataFrame":
        """The rows of that version of a table, or only some of its columns."""
        ...

    def version(self, table: str) -> int:
        """The newest version, -1 where there is no such table yet."""
        ...


class Tables(TableReader, Protocol):
    """Tables that take rows: a batch is appended whole, and once."""

    writable: ClassVar[bool] = True

    def append(self, table: str, batch: str, frame: "pl.DataFrame") -> int:
        """Append a batch and return the version that holds it; a batch that is there already changes nothing."""
        ...


class Features(Protocol):
    """The offline feature store."""

    writable: ClassVar[bool] = False

    def join(self, rows: "pl.DataFrame", features: FeatureSet, until: datetime) -> "pl.DataFrame":
        """The rows with every view's columns, each as it was known at the row's `_time`."""
        ...


class Online(Protocol):
    """The online feature store: the latest values of each entity."""

    writable: ClassVar[bool] = True

    def write(self, view: str, rows: Iterable[tuple[str, datetime, dict[str, Any]]]) -> None:
        """Write (entity, moment, values), all or none; a newer row is never replaced by an older."""
        ...


class JournalReader(Protocol):
    """What arrived: rows by kind, in the order of their becoming known."""

    writable: ClassVar[bool] = False

    def read(self, kind: str, since: datetime | None = None, until: datetime | None = None) -> "pl.DataFrame":
        """The rows of a kind with `since < known_at <= until`."""
        ...


class Journal(JournalReader, Protocol):
    """The journal, open for writing."""

    writable: ClassVar[bool] = True

    def append(self, kind: str, frame: "pl.DataFrame") -> None:
        """Write rows that have a `known_at` column; they are there whole or not at all."""
        ...


class Packages(Protocol):
    """Model packages by digest."""

    writable: ClassVar[bool] = False

    def load(self, digest: str) -> "Model":
        """The package; raises `Corrupt` where a file does not match its digest."""
        ...


class PackageStore(Packages, Protocol):
    """Model packages, open for writing."""

    writable: ClassVar[bool] = True

    def save(self, model: "Model") -> str:
        """Keep a package; its digest."""
        ...


class Trial(Struct, frozen=True, kw_only=True):
    """What a package did in a fresh process: its answers `scores`, and what they took.

    `where` says what that process was, `warning` what it was not. `latency_ms` is the median of single rows,
    `memory_mb` the peak of the process. `error` tells why there are no answers, and `missing` names a module that it
    imported and its lock does not name.
    """

    where: str
    warning: str = ""
    error: str = ""
    missing: str = ""
    scores: list[Any] = []
    same_twice: bool = True
    latency_ms: float = 0.0
    memory_mb: float = 0.0
    size_mb: float = 0.0


class OwnMetrics(Protocol):
    """The metrics that a project defines itself."""

    writable: ClassVar[bool] = False

    def versions(self) -> "list[MetricVersion]":
        """Each metric with the digest of its code, by name."""
        ...

    def metric(self, name: str) -> "Metric":
        """The metric of that name; raises `NotFound`."""
        ...


class Environments(Protocol):
    """Fresh processes that have only the packages of a lock."""

    writable: ClassVar[bool] = False

    def try_out(
        self, files: "dict[str, bytes]", rows: list[dict[str, Any]], warm: Sequence[str] = (), *, strict: bool = False
    ) -> Trial:
        """Ask the package with these files for rows there; `strict` builds the environment from the lock itself.

        `warm` names modules that may be imported beforehand: they are kept so for the next package of the same lock.
        """
        ...


class Board(Protocol):
    """Where routes are published for the service, which never reads the ledger."""

    writable: ClassVar[bool] = True

    def publish(self, route: Route) -> None:
        """Make a route the one that is served, at once and whole; an older version never replaces a newer one."""
        ...

    def routes(self) -> dict[str, Route]:
        """The published routes by model."""
        ...


class Context(Struct, frozen=True, kw_only=True):
    """Where a step finds itself: its run, its environment, and what started it."""

    run: str
    step: str
    environment: str
    model: str
    cause: dict[str, Any]
