"""Rows of the journal in memory: their order by `known_at`, time ranges, and frames of different columns as one."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
import polars as pl

from tidemill.errors import DataError
from tidemill.journal.names import to_microseconds

_STACKED = 256  # frames; stacking thousands at once takes far more memory and time than their rows


def stack(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Stack frames; where their columns differ, the columns become their union, with the wider types."""
    remaining = list(frames)
    while len(remaining) > _STACKED:
        remaining = [
            pl.concat(remaining[first : first + _STACKED], how="diagonal_relaxed", rechunk=True)
            for first in range(0, len(remaining), _STACKED)
        ]
    return pl.concat(remaining, how="diagonal_relaxed") if len(remaining) > 1 else remaining[0]


def select_known(rows: pl.DataFrame, since: datetime | None, until: datetime | None) -> pl.DataFrame:
    """Return the rows with `since < known_at <= until`; a slice of them if they are in the order of `known_at`."""
    if since is None and until is None:
        return rows
    times = _list_times(rows)
    if not _is_sorted(times):
        above = pl.lit(value=True) if since is None else pl.col("known_at") > since
        below = pl.lit(value=True) if until is None else pl.col("known_at") <= until
        return rows.filter(above & below)
    first = 0 if since is None else int(np.searchsorted(times, to_microseconds(since), "right"))
    last = len(times) if until is None else int(np.searchsorted(times, to_microseconds(until), "right"))
    return rows.slice(first, max(last - first, 0))


def sort_known(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows in the order of `known_at`; rows of the same time keep their order."""
    return rows if _is_sorted(_list_times(rows)) else rows.sort("known_at", maintain_order=True)


def require_known_at(kind: str, frame: pl.DataFrame) -> None:
    """Raise `DataError` unless rows have a UTC column `known_at` without nulls."""
    if frame.schema.get("known_at") != pl.Datetime("us", "UTC") or frame["known_at"].null_count():
        raise DataError(
            f"rows for the journal {kind!r} have no UTC column 'known_at' without nulls",
            "add the time at which each row became known",
        )


def _list_times(rows: pl.DataFrame) -> Any:
    return rows["known_at"].to_physical().to_numpy()


def _is_sorted(times: Any) -> bool:
    return bool((times[1:] >= times[:-1]).all())
