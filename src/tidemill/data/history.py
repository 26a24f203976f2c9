"""The history of a reference: the counts of its time blocks, which show how much a window of normal life varies.

The time of the reference is divided into equal blocks. Each block contains a window with a start of its own, which is
cut into pieces of 1/64, 1/64, 1/32, … 1/4 of the block. Counts of pieces add up, so windows of 1/64 to 1/2 of a block,
of a block and of any number of blocks are sums of pieces.
"""

import zlib
from collections.abc import Hashable
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec import Struct

from tidemill.data.arrays import Floats

HALVINGS = 6
_PIECES = HALVINGS + 2
_MOST_BLOCKS = 64
_LEAST_BLOCKS = 8
_LEAST_ROWS = 200
_MOST_NUMBERS = 8_000_000
_UNPACKED = 256  # columns
_GOLDEN = 0.6180339887498949

Ints = npt.NDArray[np.int64]


class ColumnHistory(Struct, frozen=True, kw_only=True):
    """The counts of a column in each piece: its rows with a value, then its rows at each of `marks`.

    `counts` are compressed 32-bit integers of shape (pieces, 1 + marks); `bounds` compressed 64-bit numbers of shape
    (pieces, 2), the least and the greatest value of each piece (NaN if it has none), for columns of numbers.
    """

    marks: int
    counts: bytes
    bounds: bytes = b""


class History(Struct, frozen=True, kw_only=True, dict=True):
    """The time blocks of a reference: the first second, the length of a block in seconds, and the rows of each piece.

    `columns` has an entry for each column with marks.
    """

    start: float
    block: float
    rows: tuple[int, ...]
    columns: dict[str, ColumnHistory] = {}

    @cached_property
    def measured(self) -> dict[Hashable, Any]:
        """What was computed from this history, by what was asked."""
        return {}

    @property
    def blocks(self) -> int:
        """The number of blocks."""
        return len(self.rows) // _PIECES

    @property
    def seconds(self) -> float:
        """The length of the reference."""
        return self.blocks * self.block


class Pieces(Struct, frozen=True):
    """The time pieces of rows: the number of blocks, the first second, a block's seconds, and the piece of each row."""

    blocks: int
    start: float
    block: float
    index: Ints

    @property
    def total(self) -> int:
        """The number of pieces."""
        return self.blocks * _PIECES

    def count(self, cells: Ints, size: int) -> Ints:
        """Return the number of rows of each cell in each piece, shape (pieces, size); a negative cell is no cell."""
        inside = cells >= 0
        keys = self.index[inside] * size + cells[inside]
        return np.bincount(keys, minlength=self.total * size).reshape(self.total, size)

    def find_bounds(self, values: Floats) -> Floats:
        """Return the least and the greatest value of each piece, shape (pieces, 2); NaN if it has no finite value."""
        bounds = np.full((self.total, 2), np.nan)
        np.fmin.at(bounds[:, 0], self.index, values)
        np.fmax.at(bounds[:, 1], self.index, values)
        return bounds


def cut(times: pl.Series, columns: int) -> Pieces | None:
    """Return the pieces of rows by their times; None if the rows are too few, or without a time, to show what varies.

    The number of blocks is at most 64, and smaller if there are many `columns`.
    """
    if not times.dtype.is_temporal() or times.null_count() or len(times) < _LEAST_ROWS:
        return None
    seconds = times.cast(pl.Datetime("us")).to_physical().to_numpy().astype(float) / 1e6
    start, end = float(seconds.min()), float(seconds.max())
    blocks = min(_MOST_BLOCKS, _MOST_NUMBERS // (max(columns, 1) * _PIECES * 12))
    if blocks < _LEAST_BLOCKS or end <= start:
        return None
    block = (end - start) / blocks * (1 + 1e-9)
    number = np.minimum(((seconds - start) / block).astype(np.int64), blocks - 1)
    offsets = (np.arange(blocks) * _GOLDEN) % 1 / 2
    # The pieces of the window in a block begin at its offset, and double in length after the second.
    ends = np.concatenate(([0.0], 0.5 ** np.arange(HALVINGS, 0, -1)))
    within = (seconds - start) / block - number - offsets[number]
    return Pieces(blocks, start, block, number * _PIECES + np.searchsorted(ends, within, "right"))


def pack_history(pieces: Pieces, columns: dict[str, ColumnHistory]) -> History:
    """Return the history of a reference from the histories of its columns."""
    rows = tuple(np.bincount(pieces.index, minlength=pieces.total).tolist())
    return History(start=pieces.start, block=pieces.block, rows=rows, columns=columns)


def pack_column(counts: Ints, bounds: Floats | None = None) -> ColumnHistory:
    """Return the history of a column from its counts in each piece, shape (pieces, 1 + marks)."""
    return ColumnHistory(
        marks=counts.shape[1] - 1,
        counts=zlib.compress(counts.astype("<i4").tobytes(), level=1),
        bounds=b"" if bounds is None else zlib.compress(bounds.astype("<f8").tobytes(), level=1),
    )


@lru_cache(_UNPACKED)
def unpack_counts(column: ColumnHistory) -> Ints:
    """Return the counts of a column in each piece, shape (pieces, 1 + marks); they cannot be changed."""
    counts = np.frombuffer(zlib.decompress(column.counts), "<i4").reshape(-1, column.marks + 1).astype(np.int64)
    counts.setflags(write=False)
    return counts


def unpack_bounds(column: ColumnHistory) -> Floats | None:
    """Return the least and greatest value of each piece, shape (pieces, 2); None for a column without numbers."""
    if not column.bounds:
        return None
    return np.frombuffer(zlib.decompress(column.bounds), "<f8").reshape(-1, 2)


def list_scales(history: History) -> Floats:
    """Return the lengths of the windows in seconds, the shortest first: parts of a block, then numbers of blocks."""
    powers = range(-HALVINGS, int(np.log2(max(history.blocks // 2, 1))) + 1)
    return np.asarray([2.0**power * history.block for power in powers])


def sum_windows(values: Ints, scale: int) -> Ints:
    """Return the sums of pieces in windows of a scale, shape (windows, …); `values` has the shape (pieces, …).

    A scale below `HALVINGS` is a part of a block, of which each block has one window. A higher scale is a number of
    blocks; window i starts at block i.
    """
    shaped = values.reshape(-1, _PIECES, *values.shape[1:])
    if scale < HALVINGS:
        inside: Ints = shaped[:, 1 : scale + 2].sum(axis=1, dtype=np.int64)
        return inside
    totals, length = sum_before(values), 2 ** (scale - HALVINGS)
    sums: Ints = totals[length:] - totals[:-length]
    return sums


def sum_steps(values: Ints, scale: int) -> tuple[Ints, Ints]:
    """Return the sums of pieces in windows of a scale, and in windows as long directly before them.

    Half a block has no window before it; it has those of a quarter of a block, which vary more.
    """
    shaped = values.reshape(-1, _PIECES, *values.shape[1:])
    if scale < HALVINGS:
        scale = min(scale, HALVINGS - 2)
        return shaped[:, scale + 2], shaped[:, 1 : scale + 2].sum(axis=1, dtype=np.int64)
    sums, length = sum_windows(values, scale), 2 ** (scale - HALVINGS)
    return sums[length:], sums[:-length]


def sum_before(values: Ints) -> Ints:
    """Return the sums of all blocks before each block, and of all blocks, shape (blocks + 1, …)."""
    blocks = values.reshape(-1, _PIECES, *values.shape[1:]).sum(axis=1)
    return np.concatenate((np.zeros_like(blocks[:1]), np.cumsum(blocks, axis=0)))


def find_constant_windows(bounds: Floats, scale: int) -> tuple[int, int]:
    """Return the number of windows of a scale with one value, and of windows with a value."""
    shaped = bounds.reshape(-1, _PIECES, 2)
    shaped = shaped[:, 1 : scale + 2] if scale < HALVINGS else shaped
    has_value = ~np.isnan(shaped[:, :, 0]).all(axis=1)
    kept = shaped[has_value]
    constant = int((np.nanmin(kept[:, :, 0], axis=1) == np.nanmax(kept[:, :, 1], axis=1)).sum()) if len(kept) else 0
    return constant, len(kept)
