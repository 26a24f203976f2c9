"""Drift on rows that depend on each other: quiet in normal life, and sharp where a column breaks."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from msgspec.structs import replace

from tidemill.checks.drift import drift
from tidemill.core.check import Verdict
from tidemill.data.marks import profile_history
from tidemill.data.statistics import Profile, profile

START = datetime(2024, 1, 1, tzinfo=UTC)
HOURS = 24 * 365 * 2
YEAR = 24 * 365
WEEK = 7 * 24 * 3600.0


def build(hours: int = HOURS, seed: int = 0, dependence: float = 0.98) -> pl.DataFrame:
    """Return hourly rows: two columns that depend on themselves, a year's season, a category with runs, and noise."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(3, hours))
    slow = np.zeros((3, hours))
    for hour in range(1, hours):
        slow[:, hour] = dependence * slow[:, hour - 1] + np.sqrt(1 - dependence**2) * noise[:, hour]
    at = np.arange(hours)
    return pl.DataFrame(
        {
            "wind": slow[0],
            "price": np.exp(slow[1]),
            "warm": 10 * np.sin(2 * np.pi * at / YEAR) + 5 * np.sin(2 * np.pi * at / 24) + slow[2],
            "sky": np.where(slow[0] + slow[1] > 0.5, "grey", "blue"),
            "noise": random.normal(size=hours),
            "seats": random.integers(1, 5, hours),
        }
    )


def clock(hours: int, first: int = 0) -> pl.Series:
    return pl.Series([START + timedelta(hours=hour) for hour in range(first, first + hours)])


STREAM = build(HOURS + YEAR)
REFERENCE = profile_history(STREAM[:HOURS], clock(HOURS))


def judge(window: pl.DataFrame, reference: Profile = REFERENCE) -> Verdict:
    now = profile(window, reference)
    return drift(now, reference, subject="x", limit=0.3, action="retrain", minimum=100, seconds=window.height * 3600.0)


def moved(verdict: Verdict) -> set[str]:
    return {test["column"] for test in verdict.evidence["columns"] if test["moved"]}


def test_a_year_of_normal_life_is_no_alarm_and_was_one_each_week_for_independent_rows() -> None:
    weeks = [STREAM[HOURS + first : HOURS + first + 168] for first in range(0, YEAR - 168, 84)]
    alarms = [judge(week) for week in weeks]
    assert sum(verdict.outcome != "pass" for verdict in alarms) <= 1
    blind = replace(REFERENCE, history=None)
    assert sum(judge(week, blind).outcome != "pass" for week in weeks) > 0.9 * len(weeks)


def test_a_column_without_dependence_stays_sharp_beside_others() -> None:
    week = STREAM[HOURS : HOURS + 336]
    assert moved(judge(week.with_columns(pl.col("noise") + 0.6))) == {"noise"}
    assert moved(judge(week.with_columns(seats=pl.col("seats").clip(2)))) == {"seats"}


BROKEN: dict[str, tuple[str, pl.Expr]] = {
    "missing": ("wind", pl.lit(None, pl.Float64)),
    "constant": ("wind", pl.lit(0.3)),
    "constant season": ("warm", pl.lit(12.0)),
    "a twentieth missing": ("price", pl.when(pl.int_range(pl.len()) % 20 == 0).then(None).otherwise("price")),
    "units": ("noise", pl.col("noise") * 1.6 + 0.5),
    "a new category": ("sky", pl.lit("green")),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_column_that_broke_is_reported_within_500_rows(kind: str) -> None:
    column, change = BROKEN[kind]
    found = [
        column in moved(judge(STREAM[first : first + 500].with_columns(change.alias(column))))
        for first in range(HOURS, HOURS + YEAR - 500, 700)
    ]
    assert np.mean(found) >= 0.9


def test_one_broken_column_of_many_is_reported_and_trains_nothing() -> None:
    random = np.random.default_rng(5)
    frame = pl.DataFrame({f"x{index}": random.normal(size=5_000) for index in range(200)})
    reference = profile_history(frame, clock(5_000))
    window = frame[:500].with_columns(x7=pl.lit(1.5))
    verdict = drift(profile(window, reference), reference, subject="x", limit=0.3, action="retrain", minimum=100)
    assert (verdict.outcome, verdict.action) == ("warn", "experiment")
    assert "1 of 200 columns moved: x7" in verdict.reason


def shuffle(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sample(fraction=1.0, shuffle=True, seed=7)


def test_shuffled_rows_are_never_an_alarm_and_small_changes_are_caught() -> None:
    rows = shuffle(STREAM)
    reference = profile_history(rows[:12_000], clock(12_000))
    windows = [rows[first : first + 2_000] for first in range(12_000, 24_000, 500)]
    assert {judge(window, reference).outcome for window in windows} == {"pass"}
    changes: dict[str, Callable[[pl.DataFrame], pl.DataFrame]] = {
        "wind": lambda frame: frame.with_columns(pl.col("wind") + 0.3),
        "warm": lambda frame: frame.with_columns(pl.col("warm") * 1.6),
    }
    for column, change in changes.items():
        assert moved(judge(change(windows[0]), reference)) == {column}


def test_a_reference_of_fifty_rows_or_one_is_compared_as_independent_rows() -> None:
    for size in (1, 50):
        reference = profile_history(STREAM[:size], clock(size))
        assert reference.history is None
        window = STREAM[:500].with_columns(wind=pl.lit(None, pl.Float64))
        assert ("wind" in moved(judge(window, reference))) == (size == 50)


def test_a_window_much_shorter_than_the_reference_can_show_reports_what_is_missing() -> None:
    window = STREAM[HOURS : HOURS + 500].with_columns(price=pl.lit(None, pl.Float64))
    now = profile(window, REFERENCE)
    verdict = drift(now, REFERENCE, subject="x", limit=0.3, action="retrain", minimum=100, seconds=2.0)
    assert "price" in moved(verdict)
