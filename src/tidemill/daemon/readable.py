"""Reads the records of a book without those that were damaged: one damaged record must not block the others."""

from collections.abc import Callable
from typing import Any, TypeVar

from msgspec import Struct

from tidemill.core.resources import BookReader
from tidemill.errors import Corrupt, NotFound

T = TypeVar("T", bound=Struct)
_reported: set[str] = set()


def find_readable(
    book: BookReader[T],
    report: Callable[[str], None],
    *,
    limit: int | None = None,
    newest: bool = False,
    after: str = "",
    before: str = "",
    **equals: Any,
) -> list[T]:
    """Return the records that `find` returns, without the damaged ones, which are reported once."""
    try:
        return book.find(limit=limit, newest=newest, after=after, before=before, **equals)
    except Corrupt:
        identifiers = sorted(book.values("id", **equals), reverse=newest)
    found: list[T] = []
    for identifier in identifiers:
        if (after and identifier <= after) or (before and identifier >= before):
            continue
        try:
            found.append(book.get(identifier))
        except Corrupt as error:
            if error.problem not in _reported:
                _reported.add(error.problem)
                report(f"{error}; it is skipped")
        except NotFound:  # deleted meanwhile
            continue
        if limit is not None and len(found) == limit:
            break
    return found
