"""Profiles agree with numpy, and later rows are counted in the reference's bins."""

import math
from datetime import datetime
from fractions import Fraction
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.data.statistics import ColumnProfile, Profile, merge, profile
from tidemill.errors import DataError

VALUES = np.random.default_rng(3).normal(10, 2, 5_000)


def one(values: object, reference: object = None) -> ColumnProfile:
    other = profile(pl.DataFrame({"x": reference})) if reference is not None else None
    (found,) = profile(pl.DataFrame({"x": values}), other).columns
    return found


def test_numbers_agree_with_numpy() -> None:
    found = one(VALUES)
    assert found.mean == pytest.approx(VALUES.mean())
    assert found.deviation == pytest.approx(VALUES.std())
    assert (found.low, found.high) == (VALUES.min(), VALUES.max())
    assert found.distinct == 5_000
    assert (found.rows, found.missing, found.type) == (5_000, 0, "number")
    assert len(found.edges) == 39
    assert sum(found.counts) == 5_000
    assert max(found.counts) <= 130
    assert np.allclose(found.edges, np.quantile(VALUES, np.arange(1, 40) / 40), atol=0.02)


@given(
    values=st.lists(st.floats(-1e6, 1e6) | st.none() | st.just(float("nan")) | st.just(float("inf")), max_size=60),
    later=st.lists(st.floats(-1e7, 1e7) | st.none(), max_size=60),
)
@settings(deadline=None)
def test_every_row_is_in_one_bin_or_missing(values: list[float | None], later: list[float | None]) -> None:
    frame = pl.DataFrame({"x": pl.Series(values, dtype=pl.Float64)})
    reference = profile(frame)
    for found, rows in (
        (reference, values),
        (profile(pl.DataFrame({"x": pl.Series(later, dtype=pl.Float64)}), reference), later),
    ):
        (column,) = found.columns
        finite = [v for v in rows if v is not None and np.isfinite(v)]
        assert column.missing == len(rows) - len(finite)
        assert sum(column.counts) == len(finite)
        edges = np.array(column.edges)
        wanted = np.bincount(np.searchsorted(edges, finite, side="left"), minlength=len(edges) + 1)
        assert list(column.counts) == wanted.tolist()
        assert column.distinct == (len(set(finite)) if found is reference else None)


many = st.lists(
    st.sampled_from([0.0, -1.0, 1e-200, 1e-290, 7.5, 1e160, -1e300]) | st.floats(-1e307, 1e307), max_size=20
)


@given(values=many, more=many)
@settings(deadline=None)
def test_moments_agree_with_exact_fractions_however_large_or_small_the_numbers(
    values: list[float], more: list[float]
) -> None:
    reference = profile(pl.DataFrame({"x": pl.Series(values, dtype=pl.Float64)}))
    later = profile(pl.DataFrame({"x": pl.Series(more, dtype=pl.Float64)}), reference)
    for found, rows in ((reference, values), (merge(reference, later), values + more)):
        (column,) = found.columns
        if not rows:
            assert (column.mean, column.deviation) == (None, None)
            continue
        exact = [Fraction(value) for value in rows]
        mean = sum(exact) / len(exact)
        largest = max(abs(value) for value in exact)
        variance = sum(((value - mean) / (largest or 1)) ** 2 for value in exact) / len(exact)
        assert column.mean is not None
        assert column.deviation is not None
        assert column.mean == pytest.approx(float(mean), rel=1e-9, abs=float(largest) * 1e-9)
        assert column.deviation == pytest.approx(float(variance) ** 0.5 * float(largest), abs=float(largest) * 1e-7)


def test_rows_equal_to_an_edge_and_infinite_ones_are_counted_apart() -> None:
    values = [0.0] * 60 + [1.0, 2.0, 3.0, 4.0] * 10 + [float("inf")] * 3 + [float("-inf"), float("nan")]
    found = one(values)
    assert found.ties == tuple(values.count(edge) for edge in found.edges)
    assert (found.edges[0], found.ties[0], found.infinite, found.missing) == (0.0, 60, (1, 3), 5)
    later = one([-999.0, 0.0, 0.5, 2.0, float("inf")], values)
    assert (later.counts[0], later.ties[0], later.infinite) == (2, 1, (0, 1))


def test_a_column_of_nothing_has_a_profile() -> None:
    found = one(pl.Series([None, None], dtype=pl.Float64))
    assert (found.mean, found.edges, found.missing, found.rows) == (None, (), 2, 2)
    assert profile(pl.DataFrame()).columns == ()
    assert one([1.0], pl.Series([None, None], dtype=pl.Float64)).missing == 0


def test_words_are_counted_and_the_rest_is_other() -> None:
    words = [f"w{place}" for place in range(150) for _ in range(place + 1)]
    found = one(words)
    assert len(found.values) == 100
    assert found.values["w149"] == 150
    assert found.distinct == 150
    assert sum(found.values.values()) + found.other == len(words)
    later = one(["w149", "new", None, "w0"], words)
    assert (later.values["w149"], later.values["w148"], later.other, later.missing) == (1, 0, 2, 1)


def test_booleans_times_and_whole_numbers_have_profiles() -> None:
    frame = pl.DataFrame(
        {"b": [True, False, True, None], "t": [datetime(2013, 1, d) for d in (1, 2, 3, 4)], "i": [1, 1, 2, 3]}
    )
    flag, time, number = profile(frame).columns
    assert (flag.type, flag.missing, sum(flag.counts)) == ("boolean", 1, 3)
    assert flag.mean == pytest.approx(2 / 3)
    assert (time.type, sum(time.counts), time.distinct) == ("time", 4, 4)
    assert (number.type, number.distinct, number.high) == ("integer", 3, 3.0)


def test_only_columns_of_the_reference_are_compared() -> None:
    reference = profile(pl.DataFrame({"x": [1.0], "gone": ["a"]}))
    assert [c.name for c in profile(pl.DataFrame({"new": [1], "x": [2.0]}), reference).columns] == ["x"]


COLUMNS = {
    "number": st.floats(-1e9, 1e9) | st.none() | st.just(float("nan")),
    "count": st.integers(-5, 5) | st.none(),
    "word": st.text(max_size=3) | st.none(),
    "flag": st.booleans() | st.none(),
}
KINDS = {"number": pl.Float64, "count": pl.Int64, "word": pl.String, "flag": pl.Boolean}
tables = st.lists(st.fixed_dictionaries(COLUMNS), max_size=30).map(lambda rows: pl.DataFrame(rows, schema=KINDS))


def nearly(one: Profile, other: Profile) -> bool:
    """Whether two profiles are the same, their means and deviations up to rounding."""
    assert one.rows == other.rows
    for left, right in zip(one.columns, other.columns, strict=True):
        for field in left.__struct_fields__:
            a, b = getattr(left, field), getattr(right, field)
            assert a == (pytest.approx(b, rel=1e-9, abs=1e-6) if isinstance(b, float) else b), (left.name, field)
    return True


@given(reference=tables, parts=st.tuples(tables, tables, tables))
@settings(deadline=None)
def test_merged_profiles_are_the_profile_of_the_whole_in_any_order(
    reference: pl.DataFrame, parts: tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]
) -> None:
    stored = profile(reference)
    one, two, three = (profile(part, stored) for part in parts)
    whole = profile(pl.concat(parts), stored)
    assert nearly(merge(merge(one, two), three), whole)
    assert nearly(merge(one, merge(two, three)), whole)
    assert nearly(merge(three, merge(two, one)), whole)


def test_profiles_of_other_columns_or_bins_are_not_merged() -> None:
    one, other = pl.DataFrame({"x": [1.0, 2.0]}), pl.DataFrame({"y": [1.0]})
    with pytest.raises(DataError, match="different columns"):
        merge(profile(one), profile(other))
    with pytest.raises(DataError, match="'x' has different bins"):
        merge(profile(one), profile(one * 2))


@pytest.mark.parametrize("many", [0, 1, 255, 20_000])
def test_distinct_values_are_counted_also_where_they_repeat(many: int) -> None:
    numbers = pl.Series("number", [*range(many), *range(many), None, math.nan], dtype=pl.Float64, strict=False)
    frame = pl.DataFrame([numbers, numbers.fill_nan(None).cast(pl.String).alias("text")])
    found = profile(frame.sample(fraction=1, shuffle=True, seed=1))
    assert [column.distinct for column in found.columns] == [many, many]


def test_texts_have_lengths() -> None:
    found = one(["é", "dreißig", None, "🛬🛬", ""])
    assert (found.length, found.longest, found.distinct) == (2.5, 7, 4)


def test_a_large_table_is_the_sum_of_its_slices() -> None:
    random = np.random.default_rng(8)
    rows = 600_001
    frame = pl.DataFrame(
        {"x": random.normal(size=rows), "w": random.choice(["a", "b", "c"], rows), "n": random.integers(0, 9, rows)}
    )
    reference = profile(frame.head(5_000))
    whole = profile(frame, reference)
    half = merge(profile(frame[:200_000], reference), profile(frame[200_000:], reference))
    assert nearly(whole, half)
    assert whole.rows == rows
    column = whole.column("x")
    assert column is not None
    assert column.mean == pytest.approx(frame["x"].mean(), rel=1e-12, abs=1e-12)


@given(
    values=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300),
    cuts=st.lists(st.integers(0, 300), max_size=6),
    seed=st.integers(0, 100),
)
@settings(deadline=None)
def test_moments_are_within_1e_12_in_whatever_parts_and_order_they_are_merged(
    values: list[float], cuts: list[int], seed: int
) -> None:
    reference = profile(pl.DataFrame({"x": values}))
    whole = one_of(profile(pl.DataFrame({"x": values}), reference))
    bounds = sorted({0, len(values), *(cut for cut in cuts if cut < len(values))})
    parts = [profile(pl.DataFrame({"x": values[begin:end]}), reference) for begin, end in pairwise(bounds)]
    order = np.random.default_rng(seed).permutation(len(parts))
    merged = parts[order[0]]
    for index in order[1:]:
        merged = merge(merged, parts[index])
    found = one_of(merged)
    assert found.counts == whole.counts
    assert found.ties == whole.ties
    unit = max(abs(value) for value in values) or 1.0
    assert found.mean is not None
    # In units of the greatest value: NumPy's own squares of tiny values are 0.
    scaled = np.array(values) / unit
    assert found.deviation is not None
    assert found.mean / unit == pytest.approx(float(np.mean(scaled)), abs=1e-12)
    assert found.deviation / unit == pytest.approx(float(np.std(scaled)), abs=1e-12)


def one_of(profiled: Profile) -> ColumnProfile:
    (column,) = profiled.columns
    return column
