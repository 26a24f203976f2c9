"""The plug of a source: what has come, in batches whose ids change when their rows do, and the rows of one."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import polars as pl
from msgspec.structs import replace

from tidemill.core.batch import Batch

_UNWRITABLE = ("Binary", "Duration")  # as CSV or JSON


class SourceKind(Protocol):
    """One source, wherever its rows are."""

    def batches(self, until: datetime) -> list[Batch]:
        """The batches that were there by `until`; a batch that comes again has another id, and the path it had.

        Raises
        ------
        DataError
            if it cannot be reached, or there is nothing of that name.
        """
        ...

    def rows(self, batch: Batch) -> pl.DataFrame:
        """The rows of a batch as they are there; raises `DataError` if they cannot be read any more."""
        ...


def hash_parts(*parts: object) -> str:
    """A short name for what a batch is now."""
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:16]


def number_batches(batches: Sequence[Batch], admitted: Iterable[str]) -> list[Batch]:
    """Batches with the ids under which they are let in: what comes to a place where others were let in before gets the
    next number, so that what returns (a file that was put back) is new again, and takes the place of what it replaces.

    >>> from datetime import datetime
    >>> back = Batch(id="rows/a.csv@1", source="rows", known_at=datetime(2026, 1, 1), path="a.csv")
    >>> [numbered([back], known)[0].id for known in ({}, {"rows/a.csv@1"}, {"rows/a.csv@1", "rows/a.csv@2+1"})]
    ['rows/a.csv@1', 'rows/a.csv@1', 'rows/a.csv@1+2']
    """
    before: dict[str, dict[str, int]] = {}
    for identity in admitted:
        place, _, version = identity.rpartition("@")
        content, _, number = version.partition("+")
        there = before.setdefault(place, {})
        there[content] = max(there.get(content, 0), int(number or 0))
    return [replace(batch, id=_numbered(batch.id, before)) for batch in batches]


def _numbered(identity: str, before: Mapping[str, Mapping[str, int]]) -> str:
    place, _, content = identity.rpartition("@")
    there = before.get(place, {})
    last = max(there.values(), default=0)
    stays = there.get(content) == last
    number = last if stays or not there else max(last + 1, len(there))
    return f"{identity}+{number}" if number else identity


def hash_frame(frame: pl.DataFrame) -> str:
    """A short name for the rows of a frame."""
    digest = hashlib.sha256(str(frame.schema).encode())
    if any(kind in str(frame.dtypes) for kind in _UNWRITABLE):
        for row in frame.iter_rows():
            digest.update(repr(row).encode())
    elif any(kind.is_nested() for kind in frame.dtypes):
        digest.update(frame.write_json().encode())
    else:
        digest.update(frame.write_csv(include_header=False, null_value="\0").encode())
    return digest.hexdigest()[:16]
