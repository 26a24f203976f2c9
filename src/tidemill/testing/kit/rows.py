"""Rows for property tests: random ones by a seed, and rows with zero, tiny, huge and missing values."""

from typing import NamedTuple

import numpy as np
import polars as pl

TINY, HUGE = 1e-12, 1e12
_BITS: dict[type[pl.DataType], int] = {pl.Int8: 7, pl.Int16: 15, pl.UInt8: 8, pl.UInt16: 16}


class EdgeRow(NamedTuple):
    """A row in which one column has an unusual value."""

    column: str
    value: float | None

    def __str__(self) -> str:
        shown = "missing" if self.value is None else f"{self.value:g}"
        return f"{self.column!r} = {shown}"


def draw_rows(rows: pl.DataFrame, columns: tuple[str, ...], count: int = 200, seed: int = 0) -> pl.DataFrame:
    """Return rows whose values are drawn from each column on its own: combinations that the sample does not have."""
    generator = np.random.default_rng(seed)
    drawn = {name: rows[name].gather(generator.integers(0, rows.height, count)) for name in columns}
    return pl.DataFrame(list(drawn.values()))


def list_edges(rows: pl.DataFrame, columns: tuple[str, ...]) -> tuple[pl.DataFrame, list[EdgeRow]]:
    """Return rows like the first one, each with one unusual value, and what is unusual about each.

    A number gets 0, tiny, huge and negative values, and every column a null.
    """
    first = rows.drop_nulls(columns).head(1) if rows.drop_nulls(columns).height else rows.head(1)
    edges, frames = [], []
    for name in columns:
        dtype = rows.schema[name]
        for value in _list_values(dtype):
            edges.append(EdgeRow(name, value))
            frames.append(first.with_columns(pl.lit(value).cast(dtype).alias(name)))
    return (pl.concat(frames) if frames else rows.clear()), edges


def _list_values(dtype: pl.DataType) -> tuple[float | None, ...]:
    if dtype.is_float():
        return (0.0, TINY, -TINY, HUGE, -HUGE, None)
    if dtype.is_integer():
        largest = 2 ** _BITS.get(type(dtype), 31) - 1
        return (0, largest, None) if dtype.is_unsigned_integer() else (0, -1, largest, None)
    return (None,)
