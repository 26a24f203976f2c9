"""Profiles of tables: statistics of each column that can be merged and compared with those of later rows."""

from concurrent.futures import ThreadPoolExecutor
from functools import reduce

import numpy as np
import polars as pl
from msgspec import Struct
from msgspec.structs import replace

from tidemill.data.arrays import Floats
from tidemill.data.history import ColumnHistory, History, Pieces, cut, pack_column, pack_history
from tidemill.data.keys import count_values
from tidemill.data.sketch import estimate_distinct, hash_values, keep_smallest_hashes
from tidemill.data.storable import to_seconds
from tidemill.data.types import column_type
from tidemill.errors import DataError

_BINS = 40
_TOP = 100
_MARKS = 9
_MARKED_VALUES = 8
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

    `distinct` is exact below 256 values. Above, it is an estimate (within 12 % in 19 of 20 columns), at most the number
    of rows with a value. Profiles are merged by `sketch`, the 256 smallest hashes.
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
    distinct: int = 0
    length: float | None = None
    longest: int | None = None
    sketch: tuple[int, ...] = ()

    @property
    def present(self) -> int:
        """The number of rows with a value; NaN and infinite values are missing."""
        return self.rows - self.missing


class Feature(Struct, frozen=True, kw_only=True):
    """A number of each row: a rank to a `power`, or whether a text is a `value`; less the centre, per unit."""

    column: str
    value: str | None = None
    power: int = 1
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
    if reference is not None and frame.height > _SLICE:
        slices = (profile(part, reference) for part in frame.iter_slices(_SLICE))
        return reduce(merge, slices)
    bins = {column.name: column for column in reference.columns} if reference else {}
    names = [name for name in bins if name in frame.columns] if reference else frame.columns

    def describe(name: str) -> ColumnProfile:
        return _profile_column(frame[name], bins.get(name))

    if frame.height < _PARALLEL_ROWS or len(names) < 2:
        return Profile(rows=frame.height, columns=tuple(map(describe, names)))
    # NumPy and Polars release the interpreter's lock; two columns at a time bound the memory.
    with ThreadPoolExecutor(_THREADS) as pool:
        return Profile(rows=frame.height, columns=tuple(pool.map(describe, names)))


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
    count = len(column.edges)
    if column.type in ("time", "date") or not count:
        return []
    return sorted({max(index * (count + 1) // (_MARKS + 1) - 1, 0) for index in range(1, _MARKS + 1)})


def count_marks(column: ColumnProfile, reference: ColumnProfile) -> Floats:
    """Return the number of a column's rows at each mark of its reference.

    The marks of a number are below the first edge, and at most each of at most nine edges; those of a text are its
    eight most frequent values, and the values that are not among those of the profile.
    """
    if reference.type == "text":
        names = list(reference.values)[:_MARKED_VALUES]
        return np.asarray([*(column.values.get(name, 0) for name in names), column.other], float)
    marks = find_marks(reference)
    if not marks:
        return np.empty(0)
    first = column.counts[0] - (column.ties[0] if column.ties else 0)
    return np.asarray([first, *np.cumsum(column.counts)[marks]], float)


def _record_column(values: pl.Series, column: ColumnProfile, pieces: Pieces) -> ColumnHistory:
    if column.type == "text":
        names, marked = list(column.values), min(len(column.values), _MARKED_VALUES)
        places = [min(index, _MARKED_VALUES) for index in range(len(names))]
        codes = to_text(values).replace_strict(names, places, default=_MARKED_VALUES + 1, return_dtype=pl.Int64)
        counts = pieces.count(codes.set(values.is_null(), -1).to_numpy(), _MARKED_VALUES + 2)
        return pack_column(np.column_stack((counts.sum(axis=1), counts[:, :marked], counts[:, -1])))
    array = to_numbers(values).fill_null(float("nan")).to_numpy()
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
    if (left.edges, left.type, list(left.values)) != (right.edges, right.type, list(right.values)):
        raise DataError(
            f"column {left.name!r} has different bins in each profile", "compute both with the same reference"
        )
    mean, deviation = _merge_moments(left, right)
    sketch = keep_smallest_hashes(np.asarray([*left.sketch, *right.sketch], dtype=np.uint64))
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
        low=min((v for v in (left.low, right.low) if v is not None), default=None),
        high=max((v for v in (left.high, right.high) if v is not None), default=None),
        edges=left.edges,
        counts=tuple(a + b for a, b in zip(left.counts, right.counts, strict=True)),
        ties=tuple(a + b for a, b in zip(left.ties, right.ties, strict=True)),
        infinite=(left.infinite[0] + right.infinite[0], left.infinite[1] + right.infinite[1]),
        values={value: count + right.values[value] for value, count in left.values.items()},
        other=left.other + right.other,
        distinct=min(estimate_distinct(sketch), left.present + right.present),
        length=length,
        longest=max((v for v in (left.longest, right.longest) if v is not None), default=None),
        sketch=tuple(sketch.tolist()),
    )


def _merge_moments(left: ColumnProfile, right: ColumnProfile) -> tuple[float | None, float | None]:
    if left.mean is None or right.mean is None or left.deviation is None or right.deviation is None:
        filled = left if left.mean is not None else right
        return filled.mean, filled.deviation
    n, m = left.present / (left.present + right.present), right.present / (left.present + right.present)
    mean = left.mean * n + right.mean * m
    unit = _choose_unit(max(left.deviation, right.deviation, abs(left.mean), abs(right.mean)))
    difference = right.mean / unit - left.mean / unit
    square = n * (left.deviation / unit) ** 2 + m * (right.deviation / unit) ** 2 + difference**2 * n * m
    return mean, float(np.sqrt(square)) * unit


def _mean_and_deviation(values: Floats) -> tuple[float | None, float | None]:
    if not len(values):
        return None, None
    unit = _choose_unit(float(np.abs(values).max()))
    scaled = values if unit == 1.0 else values / unit
    return float(scaled.mean()) * unit, float(scaled.std()) * unit


def _choose_unit(largest: float) -> float:
    """Return a divisor for numbers that are squared: 1, unless the square of the largest number overflows or is 0."""
    return 1.0 if largest == 0 or _SQUARED[0] < largest < _SQUARED[1] else largest


def _compute_weighted_mean(left: float | None, n: int, right: float | None, m: int) -> float:
    return ((left or 0.0) * n + (right or 0.0) * m) / max(n + m, 1)


def _profile_column(values: pl.Series, reference: ColumnProfile | None) -> ColumnProfile:
    kind = column_type(values.dtype)
    if kind in ("text", "nested") if reference is None else reference.type == "text":
        return _profile_text(values, reference)
    array = to_numbers(values).drop_nulls().to_numpy()
    finite = np.isfinite(array)
    infinite = (0, 0)
    if not finite.all():
        infinite = (int((array == -np.inf).sum()), int((array == np.inf).sum()))
        array = array[finite]
    filled = len(array) > 0
    mean, deviation = _mean_and_deviation(array)
    edges = np.asarray(reference.edges) if reference else _compute_edges(array)
    bins = np.searchsorted(edges, array, "left")
    tied = bins[edges[np.minimum(bins, len(edges) - 1)] == array] if len(edges) else bins[:0]
    sketch = keep_smallest_hashes(hash_values(array))
    return ColumnProfile(
        name=values.name,
        type=reference.type if reference else kind,
        rows=len(values),
        missing=len(values) - len(array),
        mean=mean,
        deviation=deviation,
        low=float(array.min()) if filled else None,
        high=float(array.max()) if filled else None,
        edges=tuple(edges.tolist()),
        counts=tuple(np.bincount(bins, minlength=len(edges) + 1).tolist()),
        ties=tuple(np.bincount(tied, minlength=len(edges)).tolist()),
        infinite=infinite,
        distinct=min(estimate_distinct(sketch), len(array)),
        sketch=tuple(sketch.tolist()),
    )


def to_numbers(values: pl.Series) -> pl.Series:
    """Return a column as 64-bit floats: times in microseconds, durations in seconds; null for lists and bytes."""
    if column_type(values.dtype) in ("time", "date"):
        values = values.cast(pl.Datetime("us")).to_physical()
    elif isinstance(values.dtype, pl.Duration):
        values = to_seconds(values)
    elif values.dtype.is_nested() or values.dtype == pl.Binary:
        return pl.Series(values.name, [None] * len(values), dtype=pl.Float64)
    return values.cast(pl.Float64, strict=False)


def _profile_text(values: pl.Series, reference: ColumnProfile | None) -> ColumnProfile:
    missing = values.null_count()
    present = len(values) - missing
    counts = count_values(to_text(values))
    words = counts["value"]
    known = pl.Series(list(reference.values), dtype=pl.String) if reference else words.head(_TOP)
    known_counts = dict(counts.filter(words.is_in(known.implode())).iter_rows())
    kept = {value: known_counts.get(value, 0) for value in known}
    lengths = words.str.len_chars()
    sketch = keep_smallest_hashes(hash_values(words))
    return ColumnProfile(
        name=values.name,
        type="text",
        rows=len(values),
        missing=missing,
        values=kept,
        other=present - sum(kept.values()),
        distinct=min(estimate_distinct(sketch), present),
        length=float((lengths * counts["count"]).sum()) / present if present else None,
        longest=int(lengths.max()) if present else None,  # type: ignore[arg-type]  # not empty, so a number
        sketch=tuple(sketch.tolist()),
    )


def to_text(values: pl.Series) -> pl.Series:
    """Return a column as text, also if Polars has no cast for its type."""
    try:
        return values.cast(pl.String)
    except pl.exceptions.PolarsError:
        return pl.Series(
            values.name, [None if value is None else str(value) for value in values.to_list()], dtype=pl.String
        )


def _compute_edges(values: Floats) -> Floats:
    """Return inner edges at quantiles: each bin contains about the same number of the reference's rows."""
    if not len(values):
        return values
    positions = (np.arange(1, _BINS) * len(values)) // _BINS
    return np.unique(np.partition(values, positions)[positions])
