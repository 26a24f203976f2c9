"""Reads the ledger page by page, newest first: never a whole book."""

from collections.abc import Mapping
from typing import Any, Generic, TypeVar

from msgspec import Struct

from tidemill.core.resources import Board, BookReader, BooksReader
from tidemill.errors import InputError

T = TypeVar("T", bound=Struct)
_ON_A_PAGE = 50
_MOST = 200


class Site(Struct, frozen=True):
    """What the pages are about: one environment of a project."""

    books: BooksReader
    board: Board
    project: str
    environment: str


class Part(Struct, Generic[T], frozen=True):
    """The records of one page, and the id before which the next one begins (empty at the end of the book)."""

    records: list[T]
    older: str


class Query(Struct, frozen=True):
    """What the address asks for after its question mark."""

    given: Mapping[str, str]

    def get(self, name: str) -> str:
        """A value, or an empty text."""
        return self.given.get(name, "")

    def choices(self, names: tuple[str, ...]) -> dict[str, str]:
        """The columns that are searched for a value."""
        return {name: self.given[name] for name in names if self.given.get(name)}

    @property
    def limit(self) -> int:
        """How many records a page has; raises `InputError` for what is not a number from 1 to 200."""
        asked = self.given.get("limit", str(_ON_A_PAGE))
        if not asked.isdecimal() or not 1 <= int(asked) <= _MOST:
            raise InputError(f"a page cannot have {asked!r} records", f"give a limit from 1 to {_MOST}")
        return int(asked)


def page(book: BookReader[T], query: Query, **equals: Any) -> Part[T]:
    """The records before the id that the query names."""
    limit = query.limit
    found = book.find(limit=limit + 1, newest=True, before=query.get("before"), text=query.get("text"), **equals)
    return Part(found[:limit], identifier(found[limit - 1]) if len(found) > limit else "")


def newest(book: BookReader[T], **equals: Any) -> T | None:
    """The newest record with these values."""
    found = book.find(newest=True, limit=1, **equals)
    return found[0] if found else None


def identifier(record: Struct) -> str:
    """The id that every noun has."""
    return str(getattr(record, "id"))  # noqa: B009
