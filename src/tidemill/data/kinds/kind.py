"""The plug of a source: what has come, in batches whose ids change when their rows do, and the rows of one."""

import hashlib
from datetime import datetime
from typing import Protocol

import polars as pl

from tidemill.core.resources import Batch

_UNWRITABLE = ("Binary", "Duration")  # as CSV or JSON


class Kind(Protocol):
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


def version_of(*parts: object) -> str:
    """A short name for what a batch is now."""
    return hashlib.sha256(" ".join(map(str, parts)).encode()).hexdigest()[:16]


def content_of(frame: pl.DataFrame) -> str:
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
