"""Leakage of a split is found by kind, and a clean split passes."""

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from tidemill.checks.leakage import leakage
from tidemill.data.split import at_random, by_group, by_time

START = datetime(2013, 1, 1, tzinfo=UTC)
ROWS = pl.DataFrame(
    {
        "id": range(200),
        "patient": [place % 40 for place in range(200)],
        "x": [float(place) for place in range(200)],
        "_time": [START + timedelta(hours=place) for place in range(200)],
    }
)


def test_clean_splits_pass() -> None:
    timed = by_time(ROWS, "2d", 0.2, 0.0)
    assert leakage(timed.train, timed.test, subject="m", key=("id",), timed=True).action == "proceed"
    grouped = by_group(ROWS, "patient", 0.2, 0.0, 0)
    assert leakage(grouped.train, grouped.test, subject="m", group="patient").action == "proceed"
    assert leakage(ROWS, ROWS.clear(), subject="m", timed=True).action == "proceed"


RANDOM = at_random(ROWS, 0.2, 0.0, 0)
PLANTED: dict[str, tuple[pl.DataFrame, dict[str, Any], str]] = {
    "the same rows": (pl.concat([RANDOM.test, RANDOM.train.head(1)]), {"key": ("id",)}, "1 of 41 test rows"),
    "whole rows": (pl.concat([RANDOM.test, RANDOM.train.head(9)]), {}, "9 of 49 test rows"),
    "the same patients": (RANDOM.test, {"group": "patient"}, "40 test rows are of a 'patient'"),
    "the future": (RANDOM.test, {"timed": True}, "training rows come after the first test row"),
}


@pytest.mark.parametrize(("test", "options", "said"), PLANTED.values(), ids=PLANTED)
def test_each_leak_stops(test: pl.DataFrame, options: dict[str, Any], said: str) -> None:
    verdict = leakage(RANDOM.train, test, subject="m", **options)
    assert (verdict.check, verdict.action) == ("leakage", "stop")
    assert said in verdict.reason


def test_a_column_that_names_the_side_is_found() -> None:
    train, test = (RANDOM.train.with_columns(is_train=True), RANDOM.test.with_columns(is_train=False))
    verdict = leakage(train, test, subject="m", key=("id",))
    assert verdict.evidence["telling_columns"] == ["is_train"]
    assert verdict.stops
