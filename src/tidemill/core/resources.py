"""Ports: what a step asks for by the type of a parameter, and what every back end of a store offers.

A resource is opened from its URL in the process that runs the step. It is outside the cache key, except for what the
policy says of it (`declared`). A step that asks for a `writable` resource, or for a `volatile` one, whose content
is in no cache key, is never cached; with a writable one it is idempotent by its run and name.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Protocol, TypeVar

from msgspec import Struct

from tidemill.core.artifact import Artifact
from tidemill.core.audit import AuditEntry
from tidemill.core.batch import Batch
from tidemill.core.check import Verdict
from tidemill.core.event import Event
from tidemill.core.feature import FeatureSet, FeatureView
from tidemill.core.metric_filter import MetricFilter
from tidemill.core.policy import Source
from tidemill.core.probe import PackageProbe
from tidemill.core.release import Release
from tidemill.core.route import Route
from tidemill.core.run import Run, StepRun
from tidemill.core.schema import Schema, SchemaVersion
from tidemill.core.trigger import Job

if TYPE_CHECKING:
    import polars as pl

    from tidemill.core.metric import Metric, MetricVersion
    from tidemill.core.model import Model

T = TypeVar("T", bound=Struct)


class BookReader(Protocol[T]):
    """The records of one noun, read by id or by what they contain."""

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
        metric: MetricFilter | None = None,
        linked: str = "",
        after: str = "",
        before: str = "",
        **equals: Any,
    ) -> list[T]:
        """The records that match every argument, by their ids: oldest first unless `newest`, at most `limit`.

        `equals` are values of indexed columns. `text` is words, letter case aside; each must be the beginning of a
        word of the record: of its id, names, state, cause, parameters, error, tags, metrics' names and releases, but
        not of a run's graph or software; steps and artifacts have no words. `tag` is `name=value`. `linked` finds
        steps by an artifact among their inputs or outputs (`in:DIGEST`, `out:DIGEST`) and routes by a release
        (`release:late/3`). A page continues `before` or `after` the last id of the previous page.
        """
        ...

    def values(self, column: str, **equals: Any) -> set[str]:
        """The distinct values of an indexed column among those records."""
        ...


class Book(BookReader[T], Protocol[T]):
    """The records of one noun, open for writing."""

    def add(self, record: T) -> T:
        """Write a new record; raises `Conflict` where one of its unique keys is taken."""
        ...

    def change(self, identifier: str, update: Callable[[T], T]) -> T:
        """Replace a record by `update(record)`, by compare-and-swap: no change of another process is lost.

        Raises `NotFound`, and `Conflict` where one of its unique keys is taken; a transaction around it can go on.
        """
        ...


class BooksReader(Protocol):
    """The ledger, for a step that only reads it: one book for each noun.

    It is `volatile`: what it holds is in no cache key, so that a step that asks for it is never cached.
    """

    writable: ClassVar[bool] = False
    volatile: ClassVar[bool] = True

    @property
    def artifacts(self) -> BookReader[Artifact]: ...
    @property
    def runs(self) -> BookReader[Run]: ...
    @property
    def steps(self) -> BookReader[StepRun]: ...
    @property
    def verdicts(self) -> BookReader[Verdict]: ...
    @property
    def releases(self) -> BookReader[Release]: ...
    @property
    def routes(self) -> BookReader[Route]: ...
    @property
    def events(self) -> BookReader[Event]: ...
    @property
    def jobs(self) -> BookReader[Job]: ...
    @property
    def schemas(self) -> BookReader[SchemaVersion]: ...
    @property
    def audit(self) -> BookReader[AuditEntry]: ...


class Books(BooksReader, Protocol):
    """The ledger, open for writing."""

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


class Archived(Protocol):
    """A store that can be copied into a backup and filled from one; no other code knows its files."""

    def export(self) -> Iterator[tuple[str, BinaryIO]]:
        """Each file of a copy: its relative path, and its bytes, open until the next file is asked for.

        Others may write meanwhile: the copy has everything that was there when it began.
        """
        ...

    def load(self, files: Iterable[tuple[str, BinaryIO]]) -> None:
        """Fill an empty store from the files of an export of the same kind of store."""
        ...


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


class RecordedSources(Sources, Protocol):
    """Sources whose whole history is known, as a backtest replays it."""

    def history_of(self, source: str) -> "pl.DataFrame":
        """All rows of a source, with `_time` and `_known_at`."""
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

    def grown(self, table: str, since: int = -1) -> int:
        """The newest version after `since` that added rows, -1 where none did (an erasure adds none)."""
        ...

    def names(self) -> list[str]:
        """The tables that exist, in order."""
        ...


class Tables(TableReader, Archived, Protocol):
    """Tables, open for writing: a batch is appended whole, and once."""

    writable: ClassVar[bool] = True

    def append(self, table: str, batch: str, frame: "pl.DataFrame") -> int:
        """Append a batch and return the version that contains it; a batch that is there already changes nothing.

        A column that the table does not have yet is added (null in older rows).
        """
        ...

    def erase(self, table: str, of: "Callable[[pl.DataFrame], pl.Series]", *, dry_run: bool = False) -> int:
        """Drop the rows for which `of` is true, in a new version; the number of rows.

        Older versions that contain such rows cannot be read any more.
        """
        ...

    def drop(self, table: str) -> None:
        """Forget a table and its history."""
        ...


class Features(Protocol):
    """The offline feature store."""

    writable: ClassVar[bool] = False

    def join(self, rows: "pl.DataFrame", features: FeatureSet, until: datetime) -> "pl.DataFrame":
        """The rows with every view's columns, each as it was known at the row's `_time`."""
        ...


class Online(Archived, Protocol):
    """The online feature store: the latest values of each entity."""

    writable: ClassVar[bool] = True

    def write(self, view: str, rows: Iterable[tuple[str, datetime, dict[str, Any]]]) -> None:
        """Write (entity, moment, values), all or none; a newer row is never replaced by an older."""
        ...

    def read(self, view: str, entities: Sequence[str]) -> list[tuple[datetime, dict[str, Any]] | None]:
        """The values of each entity and the moment for which they hold; None for an unknown entity."""
        ...

    def views(self) -> list[str]:
        """The views that have rows, in order."""
        ...

    def erase(self, view: str, of: Callable[[str], bool], *, dry_run: bool = False) -> int:
        """Delete the rows of a view's entities for which `of` is true, all or none; the number of rows.

        Nothing of a deleted row stays in the store's files.
        """
        ...


class JournalReader(Protocol):
    """What arrived: rows by kind, in the order of their becoming known."""

    writable: ClassVar[bool] = False

    def read(self, kind: str, since: datetime | None = None, until: datetime | None = None) -> "pl.DataFrame":
        """The rows of a kind with `since < known_at <= until`, in that order."""
        ...

    def kinds(self) -> list[str]:
        """The kinds that have rows, in order."""
        ...


class Journal(JournalReader, Archived, Protocol):
    """The journal, open for writing."""

    writable: ClassVar[bool] = True

    def append(self, kind: str, frame: "pl.DataFrame") -> None:
        """Write rows that have a UTC column `known_at` without nulls; they are there whole or not at all."""
        ...

    def erase(
        self,
        kind: str,
        of: "Callable[[pl.DataFrame], pl.Series]",
        until: datetime | None = None,
        *,
        dry_run: bool = False,
    ) -> int:
        """Drop the rows for which `of` is true (among those known by `until`); the number of rows.

        Readers see all of them or none; rows that are appended meanwhile stay.
        """
        ...

    def tidy(self, kind: str) -> None:
        """Bring a kind into a form that is quick to read; readers see the same rows."""
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

    def probe(
        self, files: "dict[str, bytes]", rows: list[dict[str, Any]], warm: Sequence[str] = (), *, strict: bool = False
    ) -> PackageProbe:
        """Load the package with these files in a fresh process and predict these rows.

        With `strict`, the environment is always built from the lock. `warm` names modules that the process may import
        early and keep for the next package with the same lock.
        """
        ...


class Board(Archived, Protocol):
    """Where routes are published for the service, which never reads the ledger."""

    writable: ClassVar[bool] = True

    def publish(self, route: Route) -> None:
        """Make a route the one that is served, at once and whole; an older version never replaces a newer one."""
        ...

    def routes(self) -> dict[str, Route]:
        """The published routes by model."""
        ...
