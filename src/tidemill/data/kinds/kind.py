"""The interface of a kind of source, and the ids of batches: an id changes when the rows of its batch change."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Protocol

import polars as pl
from msgspec.structs import replace

from tidemill.core.batch import Batch

_UNWRITABLE = ("Binary", "Duration")  # as CSV or JSON


class SourceKind(Protocol):
    """A source: it lists its batches and reads the rows of one."""

    def batches(self, until: datetime) -> list[Batch]:
        """Return the batches that existed by `until`; a batch with changed rows has a new id and the same path.

        Raises
        ------
        DataError
            if the source cannot be reached or does not exist.
        """
        ...

    def rows(self, batch: Batch) -> pl.DataFrame:
        """Return the rows of a batch; raise `DataError` if they cannot be read any more."""
        ...


def hash_parts(*parts: object) -> str:
    """Return a short hash of values that identify the content of a batch."""
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:16]


def number_batches(batches: Sequence[Batch], accepted: Iterable[str]) -> list[Batch]:
    """Add a number to the ids of batches that replace accepted ones.

    A batch with the path of an accepted batch and other content gets the next number. So a file that was replaced and
    then restored is new again, and replaces the batch that replaced it.

    >>> from datetime import datetime
    >>> restored = Batch(id="rows/a.csv@1", source="rows", known_at=datetime(2026, 1, 1), path="a.csv")
    >>> accepted = [set(), {"rows/a.csv@1"}, {"rows/a.csv@1", "rows/a.csv@2+1"}]
    >>> [number_batches([restored], ids)[0].id for ids in accepted]
    ['rows/a.csv@1', 'rows/a.csv@1', 'rows/a.csv@1+2']
    """
    numbers: dict[str, dict[str, int]] = {}
    for identity in accepted:
        path, _, version = identity.rpartition("@")
        content, _, number = version.partition("+")
        by_content = numbers.setdefault(path, {})
        by_content[content] = max(by_content.get(content, 0), int(number or 0))
    return [replace(batch, id=_add_number(batch.id, numbers)) for batch in batches]


def _add_number(identity: str, numbers: Mapping[str, Mapping[str, int]]) -> str:
    path, _, content = identity.rpartition("@")
    by_content = numbers.get(path, {})
    last = max(by_content.values(), default=0)
    is_last = by_content.get(content) == last
    number = last if is_last or not by_content else max(last + 1, len(by_content))
    return f"{identity}+{number}" if number else identity


def hash_frame(frame: pl.DataFrame) -> str:
    """Return a short hash of the rows of a frame."""
    digest = hashlib.sha256(str(frame.schema).encode())
    if any(kind in str(frame.dtypes) for kind in _UNWRITABLE):
        for row in frame.iter_rows():
            digest.update(repr(row).encode())
    elif any(kind.is_nested() for kind in frame.dtypes):
        digest.update(frame.write_json().encode())
    else:
        digest.update(frame.write_csv(include_header=False, null_value="\0").encode())
    return digest.hexdigest()[:16]
