"""The candidate is compared as it will be in production: it has learned newer rows than the champion."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from tests.projects import listed, make_project, tidemill
from tidemill.core.columns import TIME
from tidemill.core.model import Manifest, Model, Signature
from tidemill.core.policy import ModelPolicy, Problem, Training
from tidemill.core.source import Source
from tidemill.recipes.horizons import find_horizons, select_learned_rows, uses_validation

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def hourly(begin: int, end: int) -> pl.DataFrame:
    """Rows of whole days, one for each hour."""
    times = [BEGIN + begin * DAY + timedelta(hours=hour) for hour in range(24 * (end - begin))]
    return pl.DataFrame({TIME: pl.Series(times, dtype=pl.Datetime("us", "UTC"))})


def champion(day: float | None) -> Model:
    until = {} if day is None else {"trained_until": (BEGIN + day * DAY).isoformat()}
    signature = Signature(inputs=(), task="regression")
    return Model(manifest=Manifest(name="m", flavor="lightgbm", signature=signature, data=until))


def find(day: float | None, *, first: bool = False, time: str = "t") -> tuple[Any, Any]:
    """Return both horizons, with 70 days to learn, 10 of them for validation, and 14 days of test rows."""
    sources: Any = SimpleNamespace(definition=lambda _: Source(path="x", time=time or None))
    policy = ModelPolicy(problem=Problem(decision="", source="s", label="y", task="regression"))
    known = None if first else champion(day)
    return find_horizons(hourly(0, 60), hourly(60, 70), hourly(70, 84), known, policy, sources)


NEWEST_LEARNED = BEGIN + 70 * DAY - timedelta(hours=1)


@pytest.mark.parametrize("day", [None, 10, 50])
def test_the_whole_test_compares_with_an_old_champion(day: float | None) -> None:
    assert find(day) == (NEWEST_LEARNED, NEWEST_LEARNED)


def test_a_first_model_has_one_horizon() -> None:
    assert find(None, first=True) == (NEWEST_LEARNED, NEWEST_LEARNED)


@pytest.mark.parametrize("day", [62, 70, 72, 74])
def test_the_candidate_learns_half_of_the_rows_that_are_new_to_the_champion(day: int) -> None:
    learned, recent = find(day)
    assert learned == NEWEST_LEARNED
    new = hourly(0, 84).filter(pl.col(TIME) > BEGIN + day * DAY)
    compared = new.filter(pl.col(TIME) > recent)
    assert recent > BEGIN + day * DAY, "it is less stale than the champion"
    assert compared.height == max(200, new.height // 2)


def test_few_new_rows_are_all_compared() -> None:
    learned, recent = find(80)
    assert (learned, recent) == (NEWEST_LEARNED, BEGIN + 80 * DAY), "the 95 newer rows are all compared"


@pytest.mark.parametrize("day", [83, 84, 90])
def test_a_champion_that_is_too_new_is_not_compared(day: int) -> None:
    assert find(day) == (NEWEST_LEARNED, NEWEST_LEARNED)


def test_rows_without_a_time_have_no_horizon() -> None:
    assert find(74, time="") == (None, None)


def test_learned_rows_end_at_the_horizon() -> None:
    train, validation, test = hourly(0, 60), hourly(60, 70), hourly(70, 84)
    assert select_learned_rows(train, validation, test, None).height == 70 * 24
    rows = select_learned_rows(train, validation, test, BEGIN + 75 * DAY)
    assert rows.height == 75 * 24 + 1
    assert rows[TIME].is_sorted()
    assert select_learned_rows(train, validation[:0], test[:0], None).height == 60 * 24


def test_only_an_early_stop_or_a_search_needs_validation_rows() -> None:
    assert uses_validation(Training())
    assert not uses_validation(Training(early_stopping=0))
    assert not uses_validation(Training(validation=0))
    assert not uses_validation(Training(estimator="sklearn.linear_model:LogisticRegression"))


def test_the_compared_candidate_is_not_staler_than_the_champion(tmp_path: Any) -> None:
    """The champion has learned the first model's test rows; the candidate learns them too, and newer ones."""
    folder = make_project(tmp_path / "shop").folder
    file = folder / "data" / "shop.csv"
    rows = pl.read_csv(file, try_parse_dates=True)
    newest = rows["ordered"].max()
    assert isinstance(newest, datetime)
    rows.filter(pl.col("ordered") <= newest - timedelta(days=9)).write_csv(file)
    tidemill(folder, "run", "training")
    rows.write_csv(file)
    tidemill(folder, "run", "training")
    evidence = listed(folder, "checks", "list", "--check", "gate")[0]["evidence"]
    assert evidence["candidate_learned_until"] >= evidence["champion_learned_until"]
    assert evidence["compared_from"] > evidence["candidate_learned_until"]
    assert evidence["compared_rows"] >= 50
