"""Marks of a column: the few values at which the rows of each time block of a reference are counted (its history)."""

from functools import cache, lru_cache
from itertools import accumulate

import numpy as np
import polars as pl
from msgspec.structs import replace

from tidemill.data.history import ColumnHistory, Pieces, cut, pack_column, pack_history
from tidemill.data.statistics import ColumnProfile, Profile, profile, to_numbers, to_text

_MARKS = 9
_MARKED_VALUES = 8
_CACHED = 4096


def profile_history(frame: pl.DataFrame, times: pl.Series) -> Profile:
    """Return the profile of a table with its history: the counts of time blocks, by the time of each row."""
    described = profile(frame)
    pieces = cut(times, frame.width)
    if pieces is None:
        return described
    columns = {column.name: _record_column(frame[column.name], column, pieces) for column in described.columns}
    return replace(described, history=pack_history(pieces, columns))


def find_marks(column: ColumnProfile) -> list[int]:
    """Return the indices of at most nine of a column's edges, evenly spaced."""
    return [] if column.type in ("time", "date") else list(_space_marks(len(column.edges)))


@cache
def _space_marks(count: int) -> tuple[int, ...]:
    marks = range(1, _MARKS + 1) if count else ()
    return tuple(sorted({max(index * (count + 1) // (_MARKS + 1) - 1, 0) for index in marks}))


def count_marks(column: ColumnProfile, reference: ColumnProfile) -> tuple[int, ...]:
    """Return the number of a column's rows at each mark of its reference.

    The marks of a number are below the first edge, and at most each of at most nine edges; those of a text are its
    eight most frequent values, and the values that are not among those of the profile.
    """
    if reference.type == "text":
        names = list(reference.values)[:_MARKED_VALUES]
        return *(column.values.get(name, 0) for name in names), column.other
    marks = () if reference.type in ("time", "date") else _space_marks(len(reference.edges))
    return _cumulate(column.counts, column.ties[0] if column.ties else 0, marks) if marks else ()


@lru_cache(_CACHED)
def _cumulate(counts: tuple[int, ...], ties: int, marks: tuple[int, ...]) -> tuple[int, ...]:
    up_to = list(accumulate(counts))
    return up_to[0] - ties, *[up_to[mark] for mark in marks]


def _record_column(values: pl.Series, column: ColumnProfile, pieces: Pieces) -> ColumnHistory:
    if column.type == "text":
        names, marked = list(column.values), min(len(column.values), _MARKED_VALUES)
        places = [min(index, _MARKED_VALUES) for index in range(len(names))]
        codes = to_text(values).replace_strict(names, places, default=_MARKED_VALUES + 1, return_dtype=pl.Int64)
        counts = pieces.count(codes.set(values.is_null(), -1).to_numpy(), _MARKED_VALUES + 2)
        return pack_column(np.column_stack((counts.sum(axis=1), counts[:, :marked], counts[:, -1])))
    array = to_numbers(values).to_numpy()  # a null becomes NaN
    finite = np.isfinite(array)
    marks = find_marks(column)
    edges = np.asarray(column.edges)[marks]
    cells = np.where(finite, np.searchsorted(edges, array, "left") + 1, -1)
    if marks:
        cells[finite & (array < column.edges[0])] = 0
    counts = pieces.count(cells, len(marks) + 2)
    cumulated = np.cumsum(counts, axis=1)
    packed = np.column_stack((cumulated[:, -1], cumulated[:, : len(marks) + 1 if marks else 0]))
    return pack_column(packed, pieces.find_bounds(np.where(finite, array + 0.0, np.nan)) if marks else None)
