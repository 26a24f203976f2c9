"""The quick rules of init for training rows and rhythm, and what it says about a search."""

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.projects import make_project, tidemill
from tidemill.project.rhythm import describe_search, describe_training_rows, suggest_window


@given(st.integers(1, 10_000_000), st.floats(0.01, 100_000))
def test_a_window_has_enough_rows_and_is_a_small_part_of_the_history(rows: int, daily: float) -> None:
    window = suggest_window(rows, daily)
    if window:
        days = int(window[:-1])
        assert days * daily >= 4_000
        assert days * 3 <= rows / daily
    assert describe_training_rows(rows, daily).count("\n") == bool(window)


def test_without_an_event_time_nothing_is_suggested() -> None:
    assert suggest_window(10_000, 0) == ""
    assert "without an event time" in describe_search(10_000, 0)


@pytest.mark.parametrize(
    ("rows", "daily", "text"),
    [
        (45_312, 48, "`tidemill backtest --tune` finds better ones in 45,312 rows in 944 days"),
        (3_000, 33.4, "3,000 rows in 90 days are too few to choose them"),
        (1_000, 5, "1,000 rows in 200 days are too few to choose them"),
        (0, 0, "without an event time"),
    ],
)
def test_init_says_whether_a_search_can_decide(rows: int, daily: float, text: str) -> None:
    assert text in describe_search(rows, daily)


def test_the_suggested_window_is_a_comment_that_can_be_switched_on(tmp_path: Path) -> None:
    line = describe_training_rows(45_312, 48)
    assert tomllib.loads(line) == {}
    assert tomllib.loads(line.removeprefix("# ")) == {"window": "84d"}
    assert "each season twice" in line
    project = make_project(tmp_path / "shop")
    assert project.model("shop").training.window is None
    printed = tidemill(tmp_path, "init", "other").stdout
    assert "too few to choose them" in printed
