"""Profiles: what a column held, in numbers that later rows can be compared with."""

import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec import Struct

from tidemill.data.encoding import column_type

_BINS = 40
_TOP = 100


class ColumnProfile(Struct, frozen=True, kw_only=True):
    """One column: `rows`, `missing`; a numeric one has inner bin `edges` and their `counts` (one more), a text one
    its most frequent `values` with their counts, and `other` for the rest.
    """

    name: str
    type: str
    rows: int
    missing: int
    mean: float | None = None
    deviation: float | None = None
    low: float | None = None
    high: float | None = None
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    values: dict[str, int] = {}
    other: int = 0
    distinct: int = 0


class Profile(Struct, frozen=True, kw_only=True):
    """The profiles of a table's columns."""

    rows: int
    columns: tuple[ColumnProfile, ...]


def profile(frame: pl.DataFrame, reference: Profile | None = None) -> Profile:
    """The profile of a table; with a `reference`, its bins and values are used, so that the two can be compared."""
    bins = {column.name: column for column in reference.columns} if reference else {}
    names = [name for name in bins if name in frame.columns] if reference else frame.columns
    return Profile(rows=frame.height, columns=tuple(_column(frame[name], bins.get(name)) for name in names))


def _column(values: pl.Series, reference: ColumnProfile | None) -> ColumnProfile:
    kind = column_type(values.dtype)
    missing = values.null_count()
    if kind == "text" or (reference is not None and reference.type == "text"):
        return _text(values.cast(pl.String), missing, reference)
    numbers = values.drop_nulls()
    if kind in ("time", "date"):
        numbers = numbers.cast(pl.Datetime("us")).to_physical()
    numbers = numbers.cast(pl.Float64, strict=False)
    array = numbers.filter(numbers.is_finite()).sort().to_numpy()
    missing += len(numbers) - len(array)
    edges = np.asarray(reference.edges) if reference else _edges(array)
    counts = np.diff(np.searchsorted(array, edges, "right"), prepend=0, append=len(array))
    filled = len(array) > 0
    return ColumnProfile(
        name=values.name,
        type=reference.type if reference else kind,
        rows=len(values),
        missing=missing,
        mean=float(array.mean()) if filled else None,
        deviation=float(array.std()) if filled else None,
        low=float(array[0]) if filled else None,
        high=float(array[-1]) if filled else None,
        edges=tuple(edges.tolist()),
        counts=tuple(counts.tolist()),
        distinct=int((np.diff(array) > 0).sum()) + filled,
    )


def _text(values: pl.Series, missing: int, reference: ColumnProfile | None) -> ColumnProfile:
    counts = values.drop_nulls().value_counts().sort("count", values.name, descending=[True, False])
    found = dict(zip(counts[values.name].to_list(), counts["count"].to_list(), strict=True))
    known = reference.values if reference else dict(list(found.items())[:_TOP])
    kept = {value: found.get(value, 0) for value in known}
    return ColumnProfile(
        name=values.name,
        type="text",
        rows=len(values),
        missing=missing,
        values=kept,
        other=len(values) - missing - sum(kept.values()),
        distinct=len(found),
    )


def _edges(ordered: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Inner edges at quantiles: each bin holds about the same number of the reference's rows."""
    places = (np.arange(1, _BINS) * len(ordered)) // _BINS
    return np.unique(ordered[places]) if len(ordered) else ordered
