"""Profiles of tables: statistics of each column that can be merged and compared with those of later rows."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from itertools import pairwise
from operator import add, sub
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from tidemill.data.arrays import Floats
from tidemill.data.history import History
from tidemill.data.keys import count_values
from tidemill.data.storable import to_seconds
from tidemill.data.types import column_type
from tidemill.errors import DataError

T = TypeVar("T")
N = TypeVar("N", int, float)

_BINS = 40
_TOP = 100
_SQUARED = 1e-100, 1e100
_PARALLEL_ROWS = 100_000
_THREADS = 2
_SLICE = 250_000


class ColumnProfile(Struct, frozen=True, kw_only=True):
    """The profile of a column: the numbers of `rows` and of `missing` values, and a distribution.

    A numeric column has inner bin `edges` and the `counts` of the bins (one more). A text column has its most frequent
    `values` with their counts, the number of `other` rows, and lengths in characters.

    A bin contains the values above an edge, up to and including the next edge. `ties` are the numbers of rows that are
    equal to each edge. `infinite` are the numbers of rows with −∞ and +∞; they count as missing.

    `distinct` is the number of distinct values; it is None for rows that are profiled by a reference.
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
    ties: tuple[int, ...] = ()
    infinite: tuple[int, int] = (0, 0)
    values: dict[str, int] = {}
    other: int = 0
    distinct: int | None = None
    length: float | None = None
    longest: int | None = None

    @property
    def present(self) -> int:
        """The number of rows with a value; NaN and infinite values are missing."""
        return self.rows - self.missing


class Feature(Struct, frozen=True, kw_only=True):
    """A number of each row: a rank to a `power`, or whether a text is a `value`; less the centre, per unit.

    With `factors`, it is the product of these other features, by their indices, and `column` is that of the first.
    """

    column: str
    value: str | None = None
    power: int = 1
    factors: tuple[int, ...] = ()
    centre: float = 0.0
    unit: float = 1.0


class Relation(Struct, frozen=True, kw_only=True):
    """A column that the others predict: its feature, the weights of all features, and the correlation."""

    column: str
    feature: int
    weights: tuple[float, ...]
    correlation: float


class Relations(Struct, frozen=True, kw_only=True):
    """The relations between the columns of a table (see `relations`)."""

    features: tuple[Feature, ...]
    relations: tuple[Relation, ...]


class Profile(Struct, frozen=True, kw_only=True):
    """The profiles of a table's columns.

    That of training rows also has their `history`, if the rows have times, and the `relations` of the columns with the
    profile of how the rows fit them (`joint`).
    """

    rows: int
    columns: tuple[ColumnProfile, ...]
    history: History | None = None
    relations: Relations | None = None
    joint: "Profile | None" = None

    def column(self, name: str) -> ColumnProfile | None:
        """Return the profile of a column; None if there is none."""
        return next((column for column in self.columns if column.name == name), None)


def profile(frame: pl.DataFrame, reference: Profile | None = None) -> Profile:
    """Return the profile of a table; with the bins and values of a `reference`, if there is one, to compare the two."""
    if reference is None:
        return Profile(rows=frame.height, columns=tuple(_map_columns(frame, frame.columns, _profile_column)))
    slices = (profile_parts(part, [0, part.height], reference)[0] for part in frame.iter_slices(_SLICE))
    return reduce(merge, slices) if frame.height else profile_parts(frame, [0, 0], reference)[0]


def profile_parts(frame: pl.DataFrame, bounds: Sequence[int], reference: Profile) -> list[Profile]:
    """Return the profiles of the rows between each bound and the next, with the bins and values of a reference.

    The columns are converted once, which is faster than to profile each part by itself.
    """
    bins = {column.name: column for column in reference.columns}
    names = [name for name in bins if name in frame.columns]

    def describe(values: pl.Series) -> list[ColumnProfile]:
        like = bins[values.name]
        return _compare_texts(values, bounds, like) if like.type == "text" else _compare_numbers(values, bounds, like)

    described = _map_columns(frame, names, describe)
    return [
        Profile(rows=end - begin, columns=tuple(parts[index] for parts in described))
        for index, (begin, end) in enumerate(pairwise(bounds))
    ]


def _map_columns(frame: pl.DataFrame, names: Sequence[str], describe: Callable[[pl.Series], T]) -> list[T]:
    columns = [frame[name] for name in names]
    if frame.height < _PARALLEL_ROWS or len(names) < 2:
        return list(map(describe, columns))
    # NumPy and Polars release the interpreter's lock; two columns at a time bound the memory.
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(describe, columns))


def merge(left: Profile, right: Profile) -> Profile:
    """Return the profile of the rows of two profiles with the same reference, as if the rows were in one table.

    Counts are exact; means and deviations are exact up to rounding (Chan, Golub & LeVeque 1979, eq. 2.1). Profiles can
    be merged in any order.

    Raises
    ------
    DataError
        if the two profiles do not have the same columns, bins and values.
    """
    if [column.name for column in left.columns] != [column.name for column in right.columns]:
        raise DataError("two profiles have different columns", "compute both with the same reference")
    columns = tuple(
        _merge_columns(left_column, right_column)
        for left_column, right_column in zip(left.columns, right.columns, strict=True)
    )
    return Profile(rows=left.rows + right.rows, columns=columns)


def _merge_columns(left: ColumnProfile, right: ColumnProfile) -> ColumnProfile:
    if left.type != right.type or left.edges != right.edges or [*left.values] != [*right.values]:
        raise DataError(
            f"column {left.name!r} has different bins in each profile", "compute both with the same reference"
        )
    mean, deviation = _merge_moments(left, right)
    length = None
    if left.length is not None or right.length is not None:
        length = _compute_weighted_mean(left.length, left.present, right.length, right.present)
    return ColumnProfile(
        name=left.name,
        type=left.type,
        rows=left.rows + right.rows,
        missing=left.missing + right.missing,
        mean=mean,
        deviation=deviation,
        low=_choose(min, left.low, right.low),
        high=_choose(max, left.high, right.high),
        edges=left.edges,
        counts=tuple(map(add, left.counts, right.counts)),
        ties=tuple(map(add, left.ties, right.ties)),
        infinite=(left.infinite[0] + right.infinite[0], left.infinite[1] + right.infinite[1]),
        values={value: count + right.values[value] for value, count in left.values.items()},
        other=left.other + right.other,
        length=length,
        longest=_choose(max, left.longest, right.longest),
    )


def _choose(choose: Callable[[N, N], N], left: N | None, right: N | None) -> N | None:
    """Return the one that `choose` returns of two numbers; the other one if one is None."""
    if left is None or right is None:
        return right if left is None else left
    return choose(left, right)


def _merge_moments(left: ColumnProfile, right: ColumnProfile) -> tuple[float | None, float | None]:
    if left.mean is None or right.mean is None or left.deviation is None or right.deviation is None:
        filled = left if left.mean is not None else right
        return filled.mean, filled.deviation
    n, m = left.present / (left.present + right.present), right.present / (left.present + right.present)
    mean = left.mean * n + right.mean * m
    unit = _choose_unit(max(left.deviation, right.deviation, abs(left.mean), abs(right.mean)))
    difference = right.mean / unit - left.mean / unit
    square = n * (left.deviation / unit) ** 2 + m * (right.deviation / unit) ** 2 + difference**2 * n * m
    return mean, math.sqrt(square) * unit


def _compute_moments(ordered: Floats) -> tuple[float | None, float | None]:
    """Return the mean and the standard deviation of sorted numbers; None if there are none."""
    if not len(ordered):
        return None, None
    unit = _choose_unit(float(max(-ordered[0], ordered[-1])))
    scaled = ordered if unit == 1.0 else ordered / unit
    # As `scaled.mean()` and `scaled.std()`, which take longer for a few hundred numbers than the sums themselves.
    mean = np.add.reduce(scaled) / len(scaled)
    differences = scaled - mean
    variance = np.add.reduce(differences * differences) / len(scaled)
    return float(mean) * unit, float(np.sqrt(variance)) * unit


def _choose_unit(largest: float) -> float:
    """Return a divisor for numbers that are squared: 1, unless the square of the largest number overflows or is 0."""
    return 1.0 if largest == 0 or _SQUARED[0] < largest < _SQUARED[1] else largest


def _compute_weighted_mean(left: float | None, n: int, right: float | None, m: int) -> float:
    return ((left or 0.0) * n + (right or 0.0) * m) / max(n + m, 1)


def _profile_column(values: pl.Series) -> ColumnProfile:
    kind = column_type(values.dtype)
    if kind in ("text", "nested"):
        return _profile_text(values)
    ordered = np.sort(to_numbers(values).to_numpy())  # a null becomes NaN
    finite = ordered[slice(*_find_finite(ordered))]
    like = ColumnProfile(name=values.name, type=kind, rows=0, missing=0, edges=_choose_edges(finite))
    described = _count_sorted(ordered, like, np.asarray(like.edges))
    return replace(described, distinct=int(np.count_nonzero(finite[1:] != finite[:-1])) + min(len(finite), 1))


def _compare_numbers(values: pl.Series, bounds: Sequence[int], reference: ColumnProfile) -> list[ColumnProfile]:
    array = to_numbers(values).to_numpy()  # a null becomes NaN
    edges = np.asarray(reference.edges)
    return [_count_sorted(np.sort(array[begin:end]), reference, edges) for begin, end in pairwise(bounds)]


def _find_finite(ordered: Floats) -> tuple[int, int]:
    """Return the bounds of the finite ones of sorted numbers: −∞ is before them, +∞ and NaN are after them."""
    return int(ordered.searchsorted(-np.inf, "right")), int(ordered.searchsorted(np.inf, "left"))


def _count_sorted(ordered: Floats, reference: ColumnProfile, edges: Floats) -> ColumnProfile:
    """Return the profile of sorted numbers: a sort and a search of each edge is faster than a search of each number."""
    begin, end = _find_finite(ordered)
    finite = ordered[begin:end]
    mean, deviation = _compute_moments(finite)
    up_to: list[int] = finite.searchsorted(edges, "right").tolist()
    below: list[int] = finite.searchsorted(edges, "left").tolist()
    return ColumnProfile(
        name=reference.name,
        type=reference.type,
        rows=len(ordered),
        missing=len(ordered) - len(finite),
        mean=mean,
        deviation=deviation,
        low=float(finite[0]) if len(finite) else None,
        high=float(finite[-1]) if len(finite) else None,
        edges=reference.edges,
        counts=tuple(map(sub, [*up_to, len(finite)], [0, *up_to])),
        ties=tuple(map(sub, up_to, below)),
        infinite=(begin, int(ordered.searchsorted(np.inf, "right")) - end),
    )


def to_numbers(values: pl.Series) -> pl.Series:
    """Return a column as 64-bit floats: times in microseconds, durations in seconds; null for lists and bytes."""
    if column_type(values.dtype) in ("time", "date"):
        values = values.cast(pl.Datetime("us")).to_physical()
    elif isinstance(values.dtype, pl.Duration):
        values = to_seconds(values)
    elif values.dtype.is_nested() or values.dtype == pl.Binary:
        return pl.Series(values.name, [None] * len(values), dtype=pl.Float64)
    elif isinstance(values.dtype, pl.Categorical | pl.Enum):  # Polars casts them by way of texts only
        values = values.cast(pl.String)
    return values.cast(pl.Float64, strict=False)


def _profile_text(values: pl.Series) -> ColumnProfile:
    text = to_text(values)
    words = count_values(text)["value"]
    kept = dict.fromkeys(words.head(_TOP).to_list(), 0)
    like = ColumnProfile(name=values.name, type="text", rows=0, missing=0, values=kept)
    (described,) = _compare_texts(text, [0, len(values)], like)
    return replace(described, distinct=len(words))


def _compare_texts(values: pl.Series, bounds: Sequence[int], reference: ColumnProfile) -> list[ColumnProfile]:
    text = to_text(values)
    names, lengths = list(reference.values), text.str.len_chars()
    missing = lengths.is_null().to_numpy()
    characters = lengths.fill_null(0).to_numpy()
    codes = encode(text, names)
    described = []
    for begin, end in pairwise(bounds):
        counts = np.bincount(codes[begin:end], minlength=len(names) + 1).tolist()
        absent = int(missing[begin:end].sum())
        present, part = end - begin - absent, characters[begin:end]
        described.append(
            ColumnProfile(
                name=values.name,
                type="text",
                rows=end - begin,
                missing=absent,
                values=dict(zip(names, counts, strict=False)),
                other=counts[-1] - absent,
                length=float(part.sum(dtype=np.int64)) / present if present else None,
                longest=int(part.max()) if present else None,
            )
        )
    return described


def encode(text: pl.Series, names: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the position of each text among some names; their number for other texts and nulls."""
    codes = text.cast(pl.Enum(names), strict=False).to_physical().cast(pl.Int64)
    return codes.fill_null(len(names)).to_numpy()


def to_text(values: pl.Series) -> pl.Series:
    """Return a column as text, also if Polars has no cast for its type."""
    try:
        return values.cast(pl.String)
    except pl.exceptions.PolarsError:
        return pl.Series(
            values.name, [None if value is None else str(value) for value in values.to_list()], dtype=pl.String
        )


def _choose_edges(ordered: Floats) -> tuple[float, ...]:
    """Return inner edges at quantiles: each bin contains about the same number of the reference's rows."""
    if not len(ordered):
        return ()
    return tuple(np.unique(ordered[(np.arange(1, _BINS) * len(ordered)) // _BINS]).tolist())
