"""Drift of values that last: many rows have the same one, such as the weather or a rate of the last week."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from tidemill.checks.calibration import compute_tail
from tidemill.checks.drift import drift
from tidemill.core.check import Verdict
from tidemill.data.marks import profile_history
from tidemill.monitoring.inputs import build_windows

START = datetime(2026, 1, 1, tzinfo=UTC)
HOURLY, TRAINED, LIVE = 40, 120, 60  # rows an hour, days


def build() -> pl.DataFrame:
    """Return rows whose first columns are those of an hour: two that last for days, and a rate of the last day."""
    random, hours = np.random.default_rng(3), 24 * (TRAINED + LIVE)
    slow = np.zeros((3, hours))
    for hour in range(1, hours):
        slow[:, hour] = 0.97 * slow[:, hour - 1] + random.normal(0, 0.25, 3)
    rate = np.convolve(np.exp(slow[2] / 2), np.ones(24) / 24)[:hours]
    columns = {"temp": 15 + 8 * slow[0], "pressure": 1013 + 9 * slow[1], "rate": rate}
    frame = pl.DataFrame({name: np.repeat(values, HOURLY) for name, values in columns.items()})
    times = [START + timedelta(hours=row / HOURLY) for row in range(frame.height)]
    noise = {f"x{index}": random.normal(size=frame.height) for index in range(3)}
    return frame.with_columns(**{name: pl.Series(values) for name, values in noise.items()}, time=pl.Series(times))


ROWS = build()
NAMES = ROWS.columns[:-1]
BEGIN = TRAINED * 24 * HOURLY
REFERENCE = profile_history(ROWS[:BEGIN].select(NAMES), ROWS["time"][:BEGIN])


def look(day: int, change: pl.Expr | None = None) -> Verdict:
    """Return the verdict on the last week; with a change, that of its newest 500 rows."""
    end = BEGIN + day * 24 * HOURLY
    window = ROWS[end - 7 * 24 * HOURLY : end]
    if change is not None:
        window = pl.concat([window[:-500], window[-500:].with_columns(change)], how="vertical_relaxed")
    rows = window.select(pl.struct(NAMES).alias("features"), "time", known_at="time")
    whole, *recent = build_windows(rows, REFERENCE, 250)
    return drift(
        whole.now,
        REFERENCE,
        subject="x",
        limit=0.5,
        action="retrain",
        minimum=200,
        level=0.0005,
        seconds=whole.seconds,
        recent=recent,
    )


def test_weather_that_comes_and_goes_is_no_drift() -> None:
    alarms = [verdict.reason for day in range(8, LIVE) if (verdict := look(day)).outcome != "pass"]
    assert len(alarms) <= 2, alarms


@pytest.mark.parametrize(
    ("column", "change"),
    [
        ("temp", pl.lit(None, pl.Float64).alias("temp")),
        ("pressure", pl.col("pressure") * 1.6),
        ("pressure", pl.col("pressure") - 1000.0 * 0.75),
        ("rate", pl.col("rate") * 100),
        ("x0", pl.lit(0.2).alias("x0")),
        ("x1", pl.col("x1") + 0.6),
    ],
)
def test_a_column_that_broke_500_rows_ago_is_reported_beside_them(column: str, change: pl.Expr) -> None:
    for day in (10, 30, 50):
        verdict = look(day, change)
        assert [test["column"] for test in verdict.evidence["columns"] if test["moved"]] == [column], verdict.reason


def test_values_of_another_unit_are_named_as_such() -> None:
    assert "pressure (outside of all values of the reference in " in look(20, pl.col("pressure") * 1.6).reason


def test_the_tail_of_one_unit_is_the_chance_of_one_hit_and_of_many_that_of_a_binomial() -> None:
    chances = np.array([0.02, 0.3])
    assert compute_tail(chances, np.ones(2), 1, 500) == pytest.approx(chances, rel=0.3)
    assert compute_tail(chances, np.ones(2), 200, 500).max() < 1e-6
    assert compute_tail(np.array([0.5]), np.array([0.55]), 101, 500)[0] == pytest.approx(0.158, abs=0.01)
