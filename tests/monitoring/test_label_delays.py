"""Delays of labels: the share that is known in a window, beside the share that is usual for rows of their age."""

from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.core.check import Verdict
from tidemill.monitoring.label_delays import EVIDENCE, LabelDelays, add_delays, measure_delays

NOW = datetime(2024, 3, 10, tzinfo=UTC)
WEEK = timedelta(days=7)
VERDICT = Verdict(check="performance", subject="m/1", outcome="pass", action="proceed", reason="as at release")


def make_rows(now: datetime, delay: timedelta, *, stopped: datetime | None = None) -> pl.DataFrame:
    """A row an hour for a week; each label is known after the same delay, and none after `stopped`."""
    times = [now - timedelta(hours=hour) for hour in range(1, 7 * 24 + 1)]
    known = [time + delay if time + delay <= min(now, stopped or now) else None for time in times]
    kind = pl.Datetime("us", "UTC")
    return pl.DataFrame({"time": pl.Series(times, dtype=kind), "truth_known_at": pl.Series(known, dtype=kind)})


def measure(rows: pl.DataFrame, now: datetime, earlier: list[Verdict]) -> tuple[LabelDelays, Verdict]:
    found = measure_delays(rows, now, WEEK, earlier)
    assert found is not None
    return found[0], add_delays(VERDICT, *found)


def test_a_partial_window_says_so_and_what_is_usual() -> None:
    delay = timedelta(days=2)
    first, verdict = measure(make_rows(NOW, delay), NOW, [])
    assert first.known == pytest.approx(5 / 7, abs=0.01)
    assert first.usual is None
    assert first.median == pytest.approx(delay.total_seconds(), rel=0.1)
    assert verdict.reason == "as at release; 72% of the labels of this window are known"
    later = NOW + WEEK
    second, after = measure(make_rows(later, delay), later, [verdict])
    assert second.usual == pytest.approx(second.known, abs=0.02)
    assert after.reason.endswith("of the labels of this window are known (usual for rows of this age: 73%)")


def test_a_feed_that_stopped_is_below_what_is_usual() -> None:
    delay = timedelta(days=1)
    _, verdict = measure(make_rows(NOW, delay), NOW, [])
    later = NOW + WEEK
    stopped, _ = measure(make_rows(later, delay, stopped=later - timedelta(days=3)), later, [verdict])
    assert stopped.usual is not None
    assert stopped.usual - stopped.known > 0.3


def test_labels_that_are_known_at_once_say_nothing() -> None:
    found, verdict = measure(make_rows(NOW, timedelta(0)), NOW, [])
    assert (found.known, found.median, found.ninety) == (1.0, 0.0, 0.0)
    assert verdict.reason == VERDICT.reason
    assert EVIDENCE in verdict.evidence


def test_labels_later_than_the_window_have_no_median() -> None:
    found, _ = measure(make_rows(NOW, timedelta(days=10)), NOW, [])
    assert (found.known, found.median, found.ninety) == (0.0, None, None)


def test_an_empty_window_has_no_delays() -> None:
    assert measure_delays(pl.DataFrame(), NOW, WEEK, []) is None


def test_windows_that_overlap_count_once() -> None:
    _, first = measure(make_rows(NOW, timedelta(days=1)), NOW, [])
    soon = NOW + timedelta(hours=6)
    _, second = measure(make_rows(soon, timedelta(days=1)), soon, [first])
    assert second.evidence[EVIDENCE]["memory"] == first.evidence[EVIDENCE]["memory"]
    whole = NOW + WEEK
    _, third = measure(make_rows(whole, timedelta(days=1)), whole, [second])
    assert third.evidence[EVIDENCE]["memory"]["rows"][0] == 1.5 * 168


@settings(max_examples=25, deadline=None)
@given(hours=st.lists(st.integers(0, 24 * 20), min_size=1, max_size=60))
def test_shares_are_shares_for_any_delays(hours: list[int]) -> None:
    kind = pl.Datetime("us", "UTC")
    times = [NOW - timedelta(hours=index % 160) for index in range(len(hours))]
    known = [time + timedelta(hours=hour) for time, hour in zip(times, hours, strict=True)]
    rows = pl.DataFrame(
        {
            "time": pl.Series(times, dtype=kind),
            "truth_known_at": pl.Series([time if time <= NOW else None for time in known], dtype=kind),
        }
    )
    _, verdict = measure(rows, NOW, [])
    found, _ = measure(rows, NOW + WEEK, [verdict])
    assert found.usual is not None
    assert 0 <= found.usual <= 1
    assert 0 <= found.known <= 1
    assert found.median is None or 0 <= found.median <= WEEK.total_seconds()
