"""Reads the ledger page by page, newest first, never a whole book."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from msgspec import Struct

from tidemill.core.deployment import EnvironmentStatus
from tidemill.core.resources import Board, BookReader, BooksReader, Packages
from tidemill.errors import InputError
from tidemill.evidence.maturity import Maturity
from tidemill.evidence.promises import PolicyStatus

T = TypeVar("T", bound=Struct)
_DEFAULT_RECORDS = 50
_MAX_RECORDS = 200


class Site(Struct, frozen=True):
    """The stores and names of one environment of a project.

    Without `packages`, pages do not describe signatures. `read_policies` compares the policy of each model with its
    promise; without it, the page of the policy names the command that does. So does `read_maturity` for its page.
    `read_environments` returns what serves each environment.
    """

    books: BooksReader
    board: Board
    project: str
    environment: str
    packages: Packages | None = None
    read_policies: Callable[[], list[PolicyStatus]] | None = None
    read_maturity: Callable[[], Maturity] | None = None
    read_environments: Callable[[], list[EnvironmentStatus]] | None = None


class RecordPage(Struct, Generic[T], frozen=True):
    """The records of one page, and the id before which the next page starts (empty on the last page)."""

    records: list[T]
    older: str


class Query(Struct, frozen=True):
    """The query parameters of a request."""

    parameters: Mapping[str, str]

    def get(self, name: str) -> str:
        """Return a parameter, or an empty text."""
        return self.parameters.get(name, "")

    def choices(self, names: tuple[str, ...]) -> dict[str, str]:
        """Return the parameters that filter a column."""
        return {name: self.parameters[name] for name in names if self.parameters.get(name)}

    @property
    def limit(self) -> int:
        """Return the number of records of a page; raise `InputError` unless it is a number from 1 to 200."""
        limit = self.parameters.get("limit", str(_DEFAULT_RECORDS))
        if not limit.isdecimal() or not 1 <= int(limit) <= _MAX_RECORDS:
            raise InputError(f"a page cannot have {limit!r} records", f"set a limit from 1 to {_MAX_RECORDS}")
        return int(limit)


def read_page(book: BookReader[T], query: Query, **equals: Any) -> RecordPage[T]:
    """Read the records before the id in the query."""
    limit = query.limit
    records = book.find(limit=limit + 1, newest=True, before=query.get("before"), text=query.get("text"), **equals)
    return RecordPage(records[:limit], record_id(records[limit - 1]) if len(records) > limit else "")


def find_newest(book: BookReader[T], **equals: Any) -> T | None:
    """Return the newest record with these values."""
    records = book.find(newest=True, limit=1, **equals)
    return records[0] if records else None


def record_id(record: Struct) -> str:
    """Return the id of a record."""
    return str(getattr(record, "id"))  # noqa: B009
