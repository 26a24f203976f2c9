"""The history of a reference: windows of any length are sums of its pieces, and count the same rows."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.data.history import (
    HALVINGS,
    History,
    cut,
    find_constant_windows,
    list_scales,
    sum_before,
    sum_steps,
    sum_windows,
    unpack_bounds,
    unpack_counts,
)
from tidemill.data.marks import count_marks, profile_history
from tidemill.data.statistics import Profile, profile

START = datetime(2026, 1, 1, tzinfo=UTC)


def build(seed: int, rows: int = 4_000) -> tuple[pl.DataFrame, pl.Series]:
    random = np.random.default_rng(seed)
    gaps = random.random(rows) < 0.1
    frame = pl.DataFrame(
        {
            "wind": pl.Series(np.where(gaps, np.nan, random.normal(size=rows).round(1))),
            "carrier": random.choice(["AA", "UA", "Ünï"], rows),
            "many": [f"w{number}" for number in random.integers(0, 300, rows)],
            "flag": random.random(rows) < 0.3,
            "gone": pl.Series([None] * rows, dtype=pl.Float64),
            "same": [4] * rows,
        }
    )
    minutes = np.sort(random.integers(0, 60 * 24 * 90, rows))
    return frame, pl.Series([START + timedelta(minutes=int(minute)) for minute in minutes])


def read(found: Profile) -> History:
    assert found.history is not None
    return found.history


@given(seed=st.integers(0, 1000), scale=st.integers(0, HALVINGS + 4))
@settings(deadline=None, max_examples=30)
def test_windows_of_every_length_count_the_rows_of_their_time(seed: int, scale: int) -> None:
    frame, times = build(seed)
    found = profile_history(frame, times)
    history = read(found)
    length = timedelta(seconds=float(list_scales(history)[scale]))
    block = timedelta(seconds=history.block)
    windows = sum_windows(np.asarray(history.rows), scale)
    for index in range(0, len(windows), 7):
        offset = (index * 0.6180339887498949) % 1 / 2 if scale < HALVINGS else 0.0
        begin = times.min() + block * (index + offset)  # type: ignore[operator]
        inside = (times >= begin) & (times < begin + length)
        part = profile(frame.filter(inside), found)
        assert abs(windows[index] - part.rows) <= 1, "a row at the border of two pieces may round to either"
        if windows[index] != part.rows:
            continue
        for column in found.columns:
            counts = sum_windows(unpack_counts(history.columns[column.name]), scale)[index]
            now = part.column(column.name)
            assert now is not None
            assert counts.tolist() == [now.present, *count_marks(now, column)], column.name


def test_all_pieces_together_are_the_reference() -> None:
    frame, times = build(1)
    found = profile_history(frame, times)
    history = read(found)
    assert sum(history.rows) == frame.height
    for column in found.columns:
        counts = unpack_counts(history.columns[column.name])
        assert sum_before(counts)[-1].tolist() == [column.present, *count_marks(column, column)]


def test_the_order_of_the_rows_does_not_matter() -> None:
    frame, times = build(2)
    order = np.random.default_rng(0).permutation(frame.height)
    assert read(profile_history(frame[order], times[order])) == read(profile_history(frame, times))


def test_a_step_compares_neighbours_of_the_same_length() -> None:
    values = np.arange(64 * 8)
    newer, older = sum_steps(values, 0)
    assert (newer.tolist()[:2], older.tolist()[:2]) == ([2, 10], [1, 9])
    newer, older = sum_steps(values, HALVINGS + 1)
    assert newer[0] - older[0] == 16 * 16
    assert len(newer) == 61


def test_windows_with_one_value_are_found() -> None:
    rows = 6_400
    number = np.random.default_rng(3).normal(size=rows)
    number[1_000:3_000] = 7.0
    times = pl.Series([START + timedelta(minutes=minute) for minute in range(rows)])
    history = read(profile_history(pl.DataFrame({"x": number}), times))
    bounds = unpack_bounds(history.columns["x"])
    assert bounds is not None
    assert find_constant_windows(bounds, HALVINGS) == (20, 64)


@pytest.mark.parametrize(
    "times",
    [
        pl.Series([None] * 300, dtype=pl.Datetime("us", "UTC")),
        pl.Series([START] * 300),
        pl.Series([START + timedelta(days=day) for day in range(199)]),
        pl.Series(["2026-01-01"] * 300),
    ],
)
def test_rows_that_show_no_variation_have_no_history(times: pl.Series) -> None:
    assert profile_history(pl.DataFrame({"x": range(len(times))}), times).history is None


def test_the_history_of_many_columns_is_bounded() -> None:
    times = pl.Series([START + timedelta(hours=hour) for hour in range(300)])
    few, many, most = (cut(times, columns) for columns in (20, 5_000, 50_000))
    assert few is not None
    assert many is not None
    assert (few.blocks, many.blocks, most) == (64, 16, None)
