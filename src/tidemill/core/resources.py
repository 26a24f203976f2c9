"""Ports: the interfaces of stores, which back ends implement and steps request as types of their parameters.

A resource is opened from its URL in the process that runs the step. Only its settings (`declared`) are part of the
cache key. A step with a `writable` resource, or with a `volatile` resource, whose content is in no cache key, is never
cached. A step with a writable resource is idempotent by its run and name.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, Protocol, TypeVar

from msgspec import Struct

from tidemill.core.artifact import Artifact
from tidemill.core.audit import AuditEntry
from tidemill.core.batch import Batch
from tidemill.core.build import Build
from tidemill.core.check import Verdict
from tidemill.core.deployment import Deployment
from tidemill.core.event import Event
from tidemill.core.feature import FeatureSet, FeatureView
from tidemill.core.metric_filter import MetricFilter
from tidemill.core.release import Release
from tidemill.core.route import Route
from tidemill.core.run import Run, StepRun
from tidemill.core.schema import Schema, SchemaVersion
from tidemill.core.source import Source
from tidemill.core.token import Token, TokenList
from tidemill.core.trigger import Job

if TYPE_CHECKING:
    import polars as pl

    from tidemill.core.model import Model

T = TypeVar("T", bound=Struct)


class BookReader(Protocol[T]):
    """The records of one type, to read."""

    def get(self, identifier: str) -> T:
        """Return the record with that id, or the only id that starts with it (8 characters); raise `NotFound`."""
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
        """Return at most `limit` records that match every argument, in the order of their ids or `newest` first.

        Parameters
        ----------
        text
            Words, in any letter case. Each must be the start of a word of the record: of its id, names, state, cause,
            parameters, error, tags, metrics' names or releases. A run's graph and software are not searched; steps and
            artifacts have no words.
        tag
            A tag, as `name=value`.
        linked
            `in:DIGEST` or `out:DIGEST` finds steps by an artifact among their inputs or outputs; `release:late/3` finds
            routes by a release.
        after, before
            The last id of the previous page.
        equals
            Values of indexed columns.
        """
        ...

    def values(self, column: str, **equals: Any) -> set[str]:
        """Return the distinct values of an indexed column among the records with the values `equals`."""
        ...


class Book(BookReader[T], Protocol[T]):
    """The records of one type, to read and write."""

    def add(self, record: T) -> T:
        """Write a new record and return it; raise `Conflict` if its id or a unique key exists."""
        ...

    def change(self, identifier: str, update: Callable[[T], T]) -> T:
        """Replace a record with `update(record)`, by compare-and-swap: no change of another process is lost.

        Raises `NotFound`, and `Conflict` if another record has a unique key. An open transaction can continue.
        """
        ...


class BooksReader(Protocol):
    """The ledger, for a step that only reads it: a book for each type of record.

    It is `volatile`: its content is in no cache key, so a step that reads it is never cached.
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
    @property
    def builds(self) -> BookReader[Build]: ...
    @property
    def deployments(self) -> BookReader[Deployment]: ...
    @property
    def tokens(self) -> BookReader[Token]: ...


class Books(BooksReader, Protocol):
    """The ledger, to read and write."""

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
    @property
    def builds(self) -> Book[Build]: ...
    @property
    def deployments(self) -> Book[Deployment]: ...
    @property
    def tokens(self) -> Book[Token]: ...

    def transaction(self, *, durable: bool = False) -> AbstractContextManager[Any]:
        """Open a transaction; with `durable`, the commit waits for the disk (releases, routes, audit, events)."""
        ...


class Archived(Protocol):
    """A store that a backup can export and load; no other code depends on the layout of its files."""

    def export(self) -> Iterator[tuple[str, BinaryIO]]:
        """Iterate over the files of a copy: the relative path and the bytes, open until the next file is requested.

        Other processes can write at the same time: the copy has everything that was stored when it started.
        """
        ...

    def load(self, files: Iterable[tuple[str, BinaryIO]]) -> None:
        """Fill an empty store from the files of an export of the same kind of store."""
        ...


class Sources(Protocol):
    """The project's sources, with the batches that have arrived."""

    writable: ClassVar[bool] = False

    @property
    def declared(self) -> str:
        """Return the settings that define the meaning of the rows, for cache keys; locations are not part of it."""
        ...

    def definition(self, source: str) -> Source:
        """Return the settings of a source; raise `NotFound` for an unknown source."""
        ...

    def schema(self, source: str) -> Schema | None:
        """Return the schema from the project's schema file, or None without one."""
        ...

    def labels(self, source: str) -> Mapping[str, Mapping[str, str]]:
        """Return the labels of classifications among a source's columns, each with the spellings of its classes."""
        ...

    def batches(self, source: str, until: datetime) -> Sequence[Batch]:
        """Return the batches that had arrived by `until`, oldest first."""
        ...

    def read(self, batch: Batch) -> "pl.DataFrame":
        """Return the rows of a batch."""
        ...

    def open_parts(self, batch: Batch) -> "Callable[[], Iterator[pl.DataFrame]] | None":
        """Return a function that iterates over the rows of a large batch; None if it cannot be read in parts."""
        ...

    def history(self, view: FeatureView, until: datetime) -> "pl.DataFrame":
        """Return the rows of a view's source that were known by `until`, with their event and known-at times."""
        ...


class RecordedSources(Sources, Protocol):
    """Sources whose whole history is available, for a backtest."""

    def source_history(self, source: str) -> "pl.DataFrame":
        """Return all rows of a source, with their event and known-at times."""
        ...


class TableReader(Protocol):
    """Versioned tables, to read; a version never changes."""

    writable: ClassVar[bool] = False

    def read(self, table: str, version: int, columns: Sequence[str] | None = None) -> "pl.DataFrame":
        """Return the rows of a version of a table, with all or only some columns."""
        ...

    def version(self, table: str) -> int:
        """Return the newest version, or -1 if the table does not exist."""
        ...

    def last_append(self, table: str, since: int = -1) -> int:
        """Return the newest version after `since` that added rows, or -1 if none did (an erasure adds none)."""
        ...

    def names(self) -> list[str]:
        """Return the names of the tables, in alphabetical order."""
        ...


class Tables(TableReader, Archived, Protocol):
    """Versioned tables, to read and write; a batch is appended completely, and only once."""

    writable: ClassVar[bool] = True

    def append(self, table: str, batch: str, frame: "pl.DataFrame") -> int:
        """Append a batch and return the version that contains it; a batch that was appended before changes nothing.

        A column that the table does not have yet is added (null in older rows).
        """
        ...

    def append_all(self, table: str, batches: "Mapping[str, pl.DataFrame]") -> int:
        """Append batches as `append` does, all or none, in one version."""
        ...

    def append_parts(self, table: str, batch: str, parts: "Callable[[], Iterable[pl.DataFrame]]") -> int:
        """Append a batch that comes in parts, as `append` does: all parts or none, in one version."""
        ...

    def erase(self, table: str, matches: "Callable[[pl.DataFrame], pl.Series]", *, dry_run: bool = False) -> int:
        """Delete the rows for which `matches` is true, in a new version, and the older versions that contain them."""
        ...

    def drop(self, table: str) -> None:
        """Delete a table and its history."""
        ...


class Features(Protocol):
    """The offline feature store."""

    writable: ClassVar[bool] = False

    def join(self, rows: "pl.DataFrame", features: FeatureSet, until: datetime) -> "pl.DataFrame":
        """Return the rows with the features of every view, each as it was known at the row's event time."""
        ...


class Online(Archived, Protocol):
    """The online feature store: the latest values of each entity."""

    writable: ClassVar[bool] = True

    def write(self, view: str, rows: Iterable[tuple[str, datetime, dict[str, Any]]]) -> None:
        """Write (entity, time, values), all or none; an older row never replaces a newer one."""
        ...

    def read(self, view: str, entities: Sequence[str]) -> list[tuple[datetime, dict[str, Any]] | None]:
        """Return the time and the values of each entity; None for an unknown entity."""
        ...

    def views(self) -> list[str]:
        """Return the names of the views that have rows, in alphabetical order."""
        ...

    def erase(self, view: str, matches: Callable[[str], bool], *, dry_run: bool = False) -> int:
        """Delete the rows of matching entities, all or none, also in the store's files; return the number of rows."""
        ...


class JournalReader(Protocol):
    """The journal of predictions and labels, to read: rows by kind, in the order of `known_at`."""

    writable: ClassVar[bool] = False

    def read(self, kind: str, since: datetime | None = None, until: datetime | None = None) -> "pl.DataFrame":
        """Return the rows of a kind with `since < known_at <= until`, in the order of `known_at`."""
        ...

    def kinds(self) -> list[str]:
        """Return the kinds that have rows, in alphabetical order."""
        ...


class Journal(JournalReader, Archived, Protocol):
    """The journal, to read and write."""

    writable: ClassVar[bool] = True

    def append(self, kind: str, frame: "pl.DataFrame") -> None:
        """Write rows with a UTC column `known_at` without nulls, all or none."""
        ...

    def erase(
        self,
        kind: str,
        matches: "Callable[[pl.DataFrame], pl.Series]",
        until: datetime | None = None,
        *,
        dry_run: bool = False,
    ) -> int:
        """Delete the rows for which `matches` is true (among those known by `until`); return the number of rows.

        Readers see all of these rows or none; rows that are appended at the same time are not deleted.
        """
        ...

    def tidy(self, kind: str) -> None:
        """Rewrite the files of a kind so that they are fast to read; readers see the same rows."""
        ...


class Packages(Protocol):
    """Model packages by digest, to read."""

    writable: ClassVar[bool] = False

    def load(self, digest: str) -> "Model":
        """Return the package; raise `Corrupt` if a file does not match its digest."""
        ...


class PackageStore(Packages, Protocol):
    """Model packages, to read and write."""

    writable: ClassVar[bool] = True

    def save(self, model: "Model") -> str:
        """Store a package and return its digest."""
        ...


class Board(Archived, Protocol):
    """The published routes and tokens; the service reads them instead of the ledger."""

    writable: ClassVar[bool] = True

    def publish(self, route: Route, *, replaces: str = "") -> None:
        """Publish a route, atomically; an older version replaces no newer one but that with the id `replaces`."""
        ...

    def routes(self) -> dict[str, Route]:
        """Return the published routes by model."""
        ...

    def publish_tokens(self, tokens: TokenList) -> None:
        """Publish the tokens for the service, atomically; an older version never replaces a newer one."""
        ...

    def tokens(self) -> TokenList | None:
        """Return the published tokens; None if none were ever published."""
        ...
