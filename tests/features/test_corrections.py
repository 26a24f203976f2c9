"""Corrected rows in the join against a slow oracle: plain loops, keys of every type, ties, late rows and duplicates."""

import math
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.clock import parse_duration
from tidemill.core.columns import KNOWN_AT, ROW_ID, TIME
from tidemill.core.feature import Aggregate, Entity, FeatureView
from tidemill.features.join import join
from tidemill.features.ranges import maximum_of_ranges, sum_of_ranges

START = datetime(2020, 1, 1, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UTC_TIME = pl.Datetime("us", "UTC")
SCHEMA: list[tuple[str, Any]] = [(ROW_ID, pl.String), ("k", pl.Int64), (TIME, UTC_TIME), (KNOWN_AT, UTC_TIME)]
STATISTICS = ("mean", "sum", "count")


def view(ttl: str | None = None, every: str = "20m", window: str = "5h") -> FeatureView:
    aggregates = tuple(Aggregate(name=s, column="x", statistic=s, window=window) for s in STATISTICS)  # type: ignore[arg-type]
    return FeatureView(
        name="v", entity=Entity("e", ("k",)), source="s", columns=("x",), aggregates=aggregates, ttl=ttl, every=every
    )


def current(past: list[dict[str, Any]], now: datetime) -> list[dict[str, Any]]:
    """Return the rows known at a time, with the index of each: of the versions of a row the last in the history."""
    known = [row | {"first": row[KNOWN_AT]} for row in past if row[KNOWN_AT] is not None and row[KNOWN_AT] <= now]
    for row in known:
        versions = [one for one in past if one[ROW_ID] == row[ROW_ID] and one[KNOWN_AT] is not None]
        if row[ROW_ID] is not None:
            row["first"] = min(one[KNOWN_AT] for one in versions)
    return [
        row
        for row in known
        if row[ROW_ID] is None or row["i"] == max(one["i"] for one in known if one[ROW_ID] == row[ROW_ID])
    ]


def oracle(spine: pl.DataFrame, wanted: FeatureView, history: pl.DataFrame) -> list[tuple[Any, ...]]:
    every, window = parse_duration(wanted.every), parse_duration(wanted.aggregates[0].window)
    past = [row | {"i": i} for i, row in enumerate(history.to_dicts()) if row[TIME] is not None]
    answers = []
    for asked in spine.to_dicts():
        now = asked[TIME]
        grid = EPOCH + ((now - EPOCH) // every) * every
        own = [row for row in current(past, now) if row["k"] is not None and row["k"] == asked["k"]]
        happened = [row for row in own if row[TIME] <= now]
        best = max(happened, key=lambda row: (row[TIME], row[KNOWN_AT], row["i"]), default=None)
        if best is not None and wanted.ttl and now - best[TIME] > parse_duration(wanted.ttl):
            best = None
        inside = [
            row["x"]
            for row in current(past, grid)
            if row["k"] is not None and row["k"] == asked["k"] and grid - window < row["first"] and row["x"] is not None
        ]
        inside = [x for x in inside if math.isfinite(x)]
        mean = sum(inside) / len(inside) if inside else None
        answers.append((best and best["x"], mean, sum(inside) if inside else None, float(len(inside))))
    return answers


def check(spine: pl.DataFrame, wanted: FeatureView, history: pl.DataFrame) -> None:
    joined = join(spine, wanted, history)
    assert joined.select(spine.columns).equals(spine)
    found = joined.select(wanted.features).rows()
    for row, (got, right) in enumerate(zip(found, oracle(spine, wanted, history), strict=True)):
        for name, one, other in zip(wanted.features, got, right, strict=True):
            assert one == (pytest.approx(other, abs=1e-9) if isinstance(other, float) else other), (row, name)


# Few ids and keys and coarse times, so that corrections, ties and late rows are common.
times = st.integers(0, 30).map(lambda index: START + timedelta(minutes=20 * index))
keys = st.sampled_from([1, 2, None])
past_rows = st.tuples(
    st.sampled_from(["r1", "r2", "r3", None]),
    keys,
    st.none() | times,
    st.sampled_from([0, 0, 20, 90, 300]).map(lambda minutes: timedelta(minutes=minutes)),
    st.none() | st.sampled_from([0.0, 1.5, -3.0, 7.0, -9e33, float("inf")]),
)


def history_of(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    shaped = [(name, key, at, at and at + late, x) for name, key, at, late, x in rows]
    return pl.DataFrame(shaped, schema=[*SCHEMA, ("x", pl.Float64)], orient="row")


def spine_of(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=[("k", pl.Int64), (TIME, UTC_TIME)], orient="row")


@given(
    history=st.lists(past_rows, max_size=20),
    spine=st.lists(st.tuples(keys, times), max_size=10),
    ttl=st.sampled_from([None, "1h"]),
    every=st.sampled_from(["20m", "1h"]),
    window=st.sampled_from(["20m", "1h", "5h"]),
)
@settings(max_examples=200, deadline=None)
def test_a_correction_replaces_the_earlier_version_as_plain_loops_find_it(
    history: list[tuple[Any, ...]], spine: list[tuple[Any, ...]], ttl: str | None, every: str, window: str
) -> None:
    check(spine_of(spine), view(ttl, every, window), history_of(history))


@given(
    history=st.lists(past_rows, min_size=1, max_size=15),
    spine=st.lists(st.tuples(keys, times), min_size=1, max_size=5),
)
@settings(max_examples=40, deadline=None)
def test_a_correction_changes_nothing_before_it_was_known(
    history: list[tuple[Any, ...]], spine: list[tuple[Any, ...]]
) -> None:
    rows, whole = spine_of(spine), history_of(history)
    cut = whole.filter(pl.col(KNOWN_AT) <= rows[TIME].max())
    wanted = view()
    assert join(rows, wanted, cut).select(wanted.features).equals(join(rows, wanted, whole).select(wanted.features))


def hours(count: float) -> datetime:
    return START + timedelta(hours=count)


def asked(history: list[tuple[Any, ...]], *at: float, key: int = 1) -> list[tuple[Any, ...]]:
    """Return sum and count of a history of (id, key, event hour, known hour, x), at hours."""
    rows = [(name, k, hours(time), hours(known), x) for name, k, time, known, x in history]
    frame = pl.DataFrame(rows, schema=[*SCHEMA, ("x", pl.Float64)], orient="row")
    spine = spine_of([(key, hours(hour)) for hour in at])
    return join(spine, view(window="10h"), frame).select("v_sum", "v_count").rows()


def test_a_correction_counts_from_the_time_when_it_was_known() -> None:
    history = [("r1", 1, 0, 0, 100.0), ("r2", 1, 0, 0, 50.0), ("r1", 1, 0, 3, 10.0)]
    assert asked(history, 2.9, 3) == [(150.0, 2.0), (60.0, 2.0)]


def test_a_correction_is_not_a_new_row_in_a_later_window() -> None:
    history = [("r1", 1, 0, 0, 100.0), ("r1", 1, 0, 9, 10.0)]
    assert asked(history, 9.5, 10) == [(10.0, 1.0), (None, 0.0)]


def test_a_correction_moves_a_row_to_another_entity_and_time() -> None:
    history = [("r1", 1, 0, 0, 100.0), ("r1", 2, 1, 3, 100.0)]
    assert asked(history, 2, 4) == [(100.0, 1.0), (None, 0.0)]
    assert asked(history, 2, 4, key=2) == [(None, 0.0), (100.0, 1.0)]


def test_a_correction_to_null_withdraws_the_value() -> None:
    assert asked([("r1", 1, 0, 0, 100.0), ("r1", 1, 0, 3, None)], 2, 4) == [(100.0, 1.0), (None, 0.0)]


def test_a_corrected_outlier_takes_no_digits() -> None:
    history = [("r1", 1, 0, 0, 9e33), ("r2", 1, 0, 0, 0.1), ("r1", 1, 0, 3, 0.2)]
    assert asked(history, 4) == [(pytest.approx(0.3, rel=1e-12), 2.0)]


TYPED: list[tuple[Any, Any]] = [
    (pl.Int32, [7, 8, None]),
    (pl.UInt64, [7, 8, None]),
    (pl.Float64, [7.0, 8.0, float("nan")]),
    (pl.Decimal(10, 2), [Decimal("7.00"), Decimal("8.00"), None]),
    (pl.String, ["7", "8", None]),
    (pl.Categorical, ["7", "8", None]),
]
DATED: list[tuple[Any, Any]] = [
    (pl.Date, [date(2024, 1, 1), date(2024, 1, 2), None]),
    (pl.Datetime("ms"), [datetime(2024, 1, 1), datetime(2024, 1, 2), None]),
    (pl.Datetime("ns", "UTC"), [datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC), None]),
    (pl.String, ["2024-01-01", "2024-01-02T00:00:00Z", None]),
]
PAIRS = [(one, other) for same in (TYPED, DATED) for one in same for other in same]


@pytest.mark.parametrize(("spine_keys", "history_keys"), PAIRS, ids=lambda pair: str(pair[0]))
def test_keys_of_any_two_types_join_by_value(spine_keys: tuple[Any, Any], history_keys: tuple[Any, Any]) -> None:
    known = [hours(0)] * 3
    sides = [pl.Series("k", values, dtype=dtype) for dtype, values in (spine_keys, history_keys)]
    history = pl.DataFrame([sides[1], pl.Series("x", [1.0, 2.0, 3.0])]).with_columns(
        pl.Series(TIME, known, dtype=UTC_TIME), pl.Series(KNOWN_AT, known, dtype=UTC_TIME)
    )
    spine = sides[0].to_frame().with_columns(pl.Series(TIME, [hours(1)] * 3, dtype=UTC_TIME))
    assert join(spine, view(), history).select("v_x", "v_count").rows() == [(1.0, 1.0), (2.0, 1.0), (None, 0.0)]


@given(
    size=st.integers(1, 9),
    ranges=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 99)), max_size=8),
)
@settings(max_examples=100, deadline=None)
def test_ranges_cover_their_positions(size: int, ranges: list[tuple[int, int, int]]) -> None:
    bounded = [(min(begin, size), min(end, size), value) for begin, end, value in ranges]
    begin, end, values = (
        pl.Series(column, dtype=pl.Int64).to_numpy() for column in zip(*bounded or [(0, 0, 0)], strict=True)
    )
    covering = [[value for b, e, value in bounded if b <= position < e] for position in range(size)]
    assert sum_of_ranges(size, begin, end, values.astype(float)).tolist() == [float(sum(found)) for found in covering]
    assert maximum_of_ranges(size, begin, end, values).tolist() == [max(found, default=-1) for found in covering]
