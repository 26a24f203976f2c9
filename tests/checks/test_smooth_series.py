"""An input that predicts a smooth series almost perfectly is no leak by that: its own earlier values do so too."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from tidemill.checks.gate import Finding
from tidemill.checks.leaks import find_leaks
from tidemill.data.arrays import Floats

START = datetime(2013, 1, 1, tzinfo=UTC)


def look(train: pl.DataFrame, test: pl.DataFrame, **options: Any) -> list[Finding]:
    stated: dict[str, Any] = {"key": (), "timed": False, "most": 0.98}
    return find_leaks(train, test, **stated | options)


def smooth(rows: int, noise: float, seed: int = 1) -> pl.DataFrame:
    """Return a label that an input of the day before predicts nearly, such as a temperature."""
    random = np.random.default_rng(seed)
    level = np.cumsum(random.normal(0, 1, rows))
    return pl.DataFrame({"lag": level, "level": level + random.normal(0, noise, rows)})


@pytest.mark.parametrize(
    ("earlier", "outcome"),
    [
        (None, "fail"),
        (smooth(800, 0.25, seed=2), "warn"),  # the champion has served with an input of that kind
        (smooth(800, 6.0, seed=2), "fail"),  # new: the values of a column are filled in after the label
        (smooth(150, 0.25, seed=2), "fail"),  # too few rows of the champion
        (smooth(800, 0.25, seed=2).drop("lag"), "fail"),  # the champion does not have this input
        (smooth(800, 0.25, seed=2).head(0), "fail"),
    ],
    ids=["no champion", "as before", "much less before", "few rows", "a new input", "no rows"],
)
def test_an_input_that_predicted_as_much_for_the_champion_is_a_warning(
    earlier: pl.DataFrame | None, outcome: str
) -> None:
    rows = smooth(1_000, 0.25)
    (found, *_) = look(rows, rows.head(0), inputs=("lag",), label="level", most=0.95, earlier=earlier)
    assert (found.about, found.outcome) == ("leak", outcome), found.reason
    if outcome == "warn":
        assert "as in the rows of the champion" in found.reason
        assert found.evidence["leakage"] > 0.95


def test_a_copy_of_the_label_is_a_leak_even_if_the_champion_had_it() -> None:
    rows = smooth(1_000, 0.0)
    (found, *_) = look(rows, rows.head(0), inputs=("lag",), label="level", earlier=rows)
    assert (found.about, found.outcome) == ("leak", "fail")


def test_a_new_leak_is_reported_before_an_old_suspicion() -> None:
    earlier = smooth(800, 0.25, seed=2).with_columns(new=pl.int_range(800) * 7919 % 800)
    rows = smooth(1_000, 0.25).with_columns(new=pl.col("level") + 0.01)
    (found, *_) = look(rows, rows.head(0), inputs=("lag", "new"), label="level", most=0.95, earlier=earlier)
    assert (found.outcome, found.evidence["leaking_input"]) == ("fail", "new")


@pytest.mark.parametrize(("period", "shift"), [(2_000, 1), (2_000, 24), (24, 24), (24, 168)])
def test_an_input_that_predicts_no_better_than_an_earlier_value_of_the_label_is_a_warning(
    period: int, shift: int
) -> None:
    """Such as the temperature of the same hour of the day before."""
    level = measure_hourly(period, 0.02)
    rows = to_hours(level, np.concatenate([level[:shift], level[:-shift]]))
    options: dict[str, Any] = {"inputs": ("lag",), "label": "level", "most": 0.8}
    found = look(rows, rows.head(0), **options, timed=True)[0]
    assert (found.about, found.outcome) == ("leak", "warn"), found.reason
    assert "as an earlier value of the label does" in found.reason
    assert look(rows, rows.head(0), **options, timed=False)[0].outcome == "fail", "without times there is no before"


def test_a_label_with_little_noise_is_a_leak_where_its_earlier_values_predict_less() -> None:
    level = measure_hourly(24, 4.0)
    rows = to_hours(level, level + np.random.default_rng(4).normal(0, 0.05, len(level)))
    found = look(rows, rows.head(0), inputs=("lag",), label="level", timed=True)[0]
    assert (found.about, found.outcome) == ("leak", "fail"), found.reason


def measure_hourly(period: int, noise: float) -> Floats:
    """Return a number for each of 3,000 hours, with a cycle of `period` hours and a slow one."""
    hours = np.arange(3_000)
    level: Floats = np.sin(2 * np.pi * hours / period) * 10 + np.sin(hours / 700) * 5
    return level + np.random.default_rng(3).normal(0, noise, len(hours))


def to_hours(level: Any, lag: Any) -> pl.DataFrame:
    times = [START + timedelta(hours=hour) for hour in range(len(level))]
    return pl.DataFrame({"lag": lag, "level": level, "_tidemill_time": times})


def test_a_class_that_lasts_excuses_no_leak() -> None:
    """In a file that is sorted by its classes, the class of the row before predicts each class."""
    random, rows = np.random.default_rng(5), 2_000
    ill = np.arange(rows) // 1_000
    frame = pl.DataFrame(
        {
            "score": np.where(random.random(rows) < 0.002, 1 - ill, ill) + random.normal(0, 0.01, rows),
            "ill": pl.Series(["no", "yes"])[ill],
            "_tidemill_time": [START + timedelta(hours=hour) for hour in range(rows)],
        }
    )
    (found, *_) = look(frame, frame.head(0), inputs=("score",), label="ill", most=0.95, timed=True)
    assert (found.about, found.outcome) == ("leak", "fail")
