"""The point-in-time join against a slow oracle: plain loops that look at every row of the history."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.clock import parse_duration
from tidemill.core.feature import Aggregate, Entity, FeatureView
from tidemill.errors import DataError
from tidemill.features.join import join

START = datetime(2020, 1, 1, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
UTC_TIME = pl.Datetime("us", "UTC")
KEYED: list[tuple[str, Any]] = [("k", pl.String), ("q", pl.String), ("_tidemill_time", UTC_TIME)]
STATISTICS = ("mean", "sum", "count")


def view(keys: tuple[str, ...] = ("k",), ttl: str | None = None, every: str = "1h", window: str = "5h") -> FeatureView:
    return FeatureView(
        name="v",
        entity=Entity("e", keys),
        source="s",
        columns=("x", "word"),
        aggregates=tuple(Aggregate(name=one, column="x", statistic=one, window=window) for one in STATISTICS),  # type: ignore[arg-type]
        ttl=ttl,
        every=every,
    )


def oracle(spine: pl.DataFrame, wanted: FeatureView, history: pl.DataFrame) -> list[tuple[Any, ...]]:
    """What each row of the spine may know, found by looking at every row of the history."""
    keys = wanted.entity.keys
    every, window = parse_duration(wanted.every), parse_duration(wanted.aggregates[0].window)
    answers = []
    for row in spine.to_dicts():
        now = row["_tidemill_time"]
        own = [
            (index, past)
            for index, past in enumerate(history.to_dicts())
            if now is not None
            and past["_tidemill_time"] is not None
            and past["_tidemill_known_at"] is not None
            and all(row[key] is not None and past[key] == row[key] for key in keys)
        ]
        known = [
            (p["_tidemill_time"], p["_tidemill_known_at"], i)
            for i, p in own
            if p["_tidemill_time"] <= now and p["_tidemill_known_at"] <= now
        ]
        best = history.row(max(known)[2], named=True) if known else None
        if best is not None and wanted.ttl and now - best["_tidemill_time"] > parse_duration(wanted.ttl):
            best = None
        grid = EPOCH + ((now - EPOCH) // every) * every if now is not None else EPOCH
        inside = [p["x"] for _, p in own if p["x"] is not None and grid - window < p["_tidemill_known_at"] <= grid]
        inside = [x for x in inside if math.isfinite(x)]
        answers.append(
            (
                best["x"] if best else None,
                best["word"] if best else None,
                sum(inside) / len(inside) if inside else None,
                sum(inside) if inside else None,
                float(len(inside)),
            )
        )
    return answers


def check(spine: pl.DataFrame, wanted: FeatureView, history: pl.DataFrame) -> None:
    joined = join(spine, wanted, history)
    assert joined.select(spine.columns).equals(spine)
    found = joined.select(wanted.features).rows()
    for row, (got, right) in enumerate(zip(found, oracle(spine, wanted, history), strict=True)):
        for name, one, other in zip(wanted.features, got, right, strict=True):
            assert one == (pytest.approx(other, abs=1e-9) if isinstance(other, float) else other), (row, name)


# Few keys and coarse times, so that ties, duplicates and late rows are common.
keys = st.sampled_from(["a", "b", None])
times = st.integers(0, 30).map(lambda index: START + timedelta(minutes=20 * index))
delays = st.sampled_from([0, 0, 30, 90, 300]).map(lambda minutes: timedelta(minutes=minutes))
values = st.none() | st.sampled_from([0.0, 1.5, -3.0, 7.0, 1e9, -9e33])
past = st.tuples(keys, keys, st.none() | times, st.none() | delays, values, st.none() | st.sampled_from(["u", "w"]))


def history_of(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    shaped = [(k, q, t, t + late if t and late is not None else None, x, word) for k, q, t, late, x, word in rows]
    more: list[tuple[str, Any]] = [("_tidemill_known_at", UTC_TIME), ("x", pl.Float64), ("word", pl.String)]
    return pl.DataFrame(shaped, schema=[*KEYED, *more], orient="row")


def spine_of(rows: list[tuple[Any, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=KEYED, orient="row")


@given(
    history=st.lists(past, max_size=25),
    spine=st.lists(st.tuples(keys, keys, st.none() | times), max_size=12),
    by=st.sampled_from([(), ("k",), ("k", "q")]),
    ttl=st.sampled_from([None, "0s", "1h", "4h"]),
    every=st.sampled_from(["20m", "1h", "2h"]),
    window=st.sampled_from(["20m", "1h", "5h"]),
)
@settings(max_examples=250, deadline=None)
def test_the_join_is_what_plain_loops_say(
    history: list[tuple[Any, ...]],
    spine: list[tuple[Any, ...]],
    by: tuple[str, ...],
    ttl: str | None,
    every: str,
    window: str,
) -> None:
    check(spine_of(spine), view(by, ttl, every, window), history_of(history))


@given(
    history=st.lists(past, min_size=1, max_size=20),
    spine=st.lists(st.tuples(keys, keys, times), min_size=1, max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_what_becomes_known_later_changes_nothing(history: list[tuple[Any, ...]], spine: list[tuple[Any, ...]]) -> None:
    """Cut the history off at the last moment that is asked for: the answers stay."""
    rows, whole = spine_of(spine), history_of(history)
    last = rows["_tidemill_time"].max()
    cut = whole.filter(pl.col("_tidemill_known_at") <= last)
    wanted = view()
    assert join(rows, wanted, cut).select(wanted.features).equals(join(rows, wanted, whole).select(wanted.features))


def test_an_empty_history_and_an_empty_spine() -> None:
    wanted = view()
    nothing = join(spine_of([("a", "a", START)]), wanted, history_of([]))
    assert nothing.select(wanted.features).rows() == [(None, None, None, None, 0.0)]
    empty = join(spine_of([]), wanted, history_of([("a", "a", START, timedelta(0), 1.0, "u")]))
    assert empty.height == 0
    assert empty.columns == ["k", "q", "_tidemill_time", *wanted.features]
    assert empty.schema["v_word"] == pl.String


def test_a_row_is_not_known_before_it_was() -> None:
    history = history_of([("a", "a", START, timedelta(hours=2), 1.0, "u")])
    moments = [START, START + timedelta(hours=2) - timedelta(microseconds=1), START + timedelta(hours=2)]
    found = join(spine_of([("a", "a", moment) for moment in moments]), view(), history)
    assert found["v_x"].to_list() == [None, None, 1.0]


def test_one_endless_value_does_not_spoil_the_others() -> None:
    history = history_of(
        [
            ("a", "a", START, timedelta(0), float("inf"), "u"),
            ("a", "a", START + timedelta(minutes=20), timedelta(0), 2.0, "u"),
            ("b", "b", START, timedelta(0), 5.0, "u"),
        ]
    )
    found = join(spine_of([(k, k, START + timedelta(hours=1)) for k in "ab"]), view(), history)
    assert found.select("v_mean", "v_count").rows() == [(2.0, 1.0), (5.0, 1.0)]


def test_large_numbers_of_one_entity_do_not_take_the_digits_of_another() -> None:
    history = history_of(
        [("a", "a", START, timedelta(0), 1e18, "u")] * 50 + [("b", "b", START, timedelta(0), 0.1, "u")] * 3
    )
    found = join(spine_of([("b", "b", START + timedelta(hours=1))]), view(), history)
    assert found["v_mean"][0] == pytest.approx(0.1, rel=1e-12)


@pytest.mark.parametrize("outlier", [1e15, -9e33, 3.4028234663852886e38])
def test_a_large_number_before_a_window_does_not_take_the_digits_of_what_is_in_it(outlier: float) -> None:
    small = [
        ("a", "a", START + timedelta(days=30, minutes=5 * i), timedelta(0), 0.1 * (1 + i % 3), "u") for i in range(9)
    ]
    history = history_of([("a", "a", START, timedelta(0), outlier, "u"), *small])
    found = join(spine_of([("a", "a", START + timedelta(days=30, hours=1))]), view(), history)
    assert found["v_mean"][0] == pytest.approx(0.2, rel=1e-12)
    assert found["v_sum"][0] == pytest.approx(1.8, rel=1e-12)


def test_a_key_read_as_a_fraction_names_what_the_whole_number_names() -> None:
    history = history_of([("a", "a", START, timedelta(0), 1.0, "u")]).with_columns(k=pl.lit(7))
    spine = spine_of([("a", "a", START), ("a", "a", START)]).with_columns(k=pl.Series([7.0, None]))
    assert join(spine, view(), history)["v_x"].to_list() == [1.0, None]


def test_rows_of_the_spine_keep_their_order_and_number() -> None:
    history = history_of([("a", "a", START, timedelta(0), 1.0, "u")] * 3)
    spine = spine_of([("b", "a", START), ("a", "a", START), ("a", "b", START), ("a", "a", START)])
    found = join(spine, view(), history)
    assert found.select("k", "q").equals(spine.select("k", "q"))
    assert found["v_x"].to_list() == [None, 1.0, 1.0, 1.0]


@pytest.mark.parametrize("missing", ["k", "x"])
def test_a_missing_column_is_reported_with_the_view_and_the_side(missing: str) -> None:
    history = history_of([("a", "a", START, timedelta(0), 1.0, "u")]).drop(missing)
    with pytest.raises(DataError, match=f"view 'v': its source has no column '{missing}'") as refused:
        join(spine_of([("a", "a", START)]), view(), history)
    assert refused.value.cure
    with pytest.raises(DataError, match="rows to join has no column '_tidemill_time'"):
        join(spine_of([]).drop("_tidemill_time"), view(), history_of([]))
