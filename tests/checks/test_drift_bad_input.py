"""Drift on tables that are hard: each has a defined answer."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from tidemill.checks.drift import Window, drift
from tidemill.core.check import Verdict
from tidemill.data.relations import profile_joint, profile_reference
from tidemill.data.statistics import profile

START = datetime(2026, 1, 1, tzinfo=UTC)


def clock(rows: int) -> pl.Series:
    return pl.Series([START + timedelta(minutes=row) for row in range(rows)])


def judge(then: pl.DataFrame, now: pl.DataFrame) -> Verdict:
    reference = profile_reference(then, clock(then.height))
    windows = [Window(now=joint) for joint in profile_joint(now, [0, now.height], reference)]
    window = profile(now, reference)
    return drift(window, reference, subject="x", limit=0.3, action="retrain", minimum=100, relations=lambda: windows)


def moved(verdict: Verdict) -> list[str]:
    return [test["column"] for test in verdict.evidence["columns"] if test["moved"]]


def test_ten_thousand_columns_report_the_one_that_broke() -> None:
    numbers = np.random.default_rng(0).normal(size=(2, 300, 10_000)).astype(np.float32)
    names = [f"x{index}" for index in range(10_000)]
    then, now = (pl.DataFrame(part, schema=names, orient="row") for part in numbers)
    verdict = judge(then, now.with_columns(x77=pl.lit(None, pl.Float32)))
    assert moved(verdict) == ["x77"]
    assert (verdict.outcome, verdict.action) == ("warn", "experiment")
    assert "1 of 10000 columns moved: x77" in verdict.reason
    assert len(verdict.evidence["columns"]) == 200


def test_a_million_categories_are_compared() -> None:
    words = pl.DataFrame({"id": pl.Series(np.random.default_rng(1).permutation(1_000_000)).cast(pl.String)})
    reference = profile(words)

    def compare(now: pl.DataFrame) -> Verdict:
        return drift(profile(now, reference), reference, subject="x", limit=0.3, action="retrain", minimum=100)

    assert compare(words.head(5_000)).outcome == "pass"
    known = next(iter(reference.columns[0].values))
    assert moved(compare(words.head(5_000).with_columns(id=pl.lit(known)))) == ["id"]
    assert moved(judge(words.head(5_000).with_columns(id=pl.lit("1")), words.head(5_000))) == ["id"]


@pytest.mark.parametrize("kind", ["constant", "null", "nan", "infinite"])
def test_columns_without_variation_are_quiet_until_they_change(kind: str) -> None:
    value = {"constant": 4.0, "null": None, "nan": float("nan"), "infinite": float("inf")}[kind]
    then = pl.DataFrame({"x": pl.Series([value] * 600, dtype=pl.Float64), "y": range(600)})
    assert "x" not in moved(judge(then, then.head(300)))
    changed = then.head(300).with_columns(x=pl.lit(9.0))
    assert "x" in moved(judge(then, changed))


@pytest.mark.parametrize("rows", [0, 1])
def test_no_row_and_one_row_are_undecided(rows: int) -> None:
    then = pl.DataFrame({"x": np.random.default_rng(2).normal(size=500)})
    verdict = judge(then, then.head(rows))
    assert (verdict.outcome, verdict.action) == ("undecided", "hold")
    assert f"{rows} rows are too few" in verdict.reason


@pytest.mark.parametrize("rows", [0, 1, 50])
def test_a_reference_of_few_rows_is_compared_or_has_nothing_to_compare(rows: int) -> None:
    random = np.random.default_rng(3)
    then = pl.DataFrame({"x": random.normal(size=rows), "w": pl.Series(["a", "b"] * 25)[:rows]})
    now = pl.DataFrame({"x": random.normal(size=400), "w": ["a", "b"] * 200})
    assert judge(then, now).outcome == "pass"
    if rows == 50:
        assert moved(judge(then, now.with_columns(x=pl.lit(None, pl.Float64)))) == ["x"]


def test_infinities_and_nan_among_numbers_are_missing_values_of_their_own_sides() -> None:
    random = np.random.default_rng(4)
    numbers = random.normal(size=4_000)
    then = pl.DataFrame({"x": numbers})
    for value in (float("nan"), float("inf"), float("-inf")):
        spoiled = np.where(np.arange(1_000) % 10 == 0, value, numbers[:1_000])
        assert moved(judge(then, pl.DataFrame({"x": spoiled}))) == ["x"]
