"""The rows of a training where a key names the regimes: those of a value, or those that the champion serves."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from tidemill.core.columns import TIME
from tidemill.core.feature import FeatureSet
from tidemill.core.policy import ModelPolicy, Problem, Training
from tidemill.core.source import Source
from tidemill.errors import DataError
from tidemill.recipes.regime_rows import RowChoice, choose_rows, judge_need, keep_rows
from tidemill.recipes.rows import Snapshot

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = ModelPolicy(
    name="shop",
    problem=Problem(decision="d", source="rows", label="late"),
    training=Training(rounds=30, minimum_rows=60, params={"num_leaves": 4, "min_data_in_leaf": 5}),
)
SOURCES: Any = SimpleNamespace(definition=lambda _: Source(path="rows", time="when"))


def make_rows(count: int, *, contradicting: bool) -> pl.DataFrame:
    """Rows of the sites 1 (half), 2 (half) and null (one); at site 2, the label is the opposite if contradicting."""
    random = np.random.default_rng(3)
    x, site = random.normal(size=count), random.integers(1, 3, count)
    late = (x > 0) ^ (contradicting & (site == 2))
    return pl.DataFrame(
        {
            "x": x,
            "site": [None, *site[1:].astype(float).tolist()],
            "late": np.where(late, "yes", "no"),
            TIME: pl.Series([BEGIN + timedelta(minutes=index) for index in range(count)]).cast(
                pl.Datetime("us", "UTC")
            ),
        }
    )


def choose(rows: pl.DataFrame, requested: str = "", **facts: Any) -> RowChoice:
    regime = RowChoice(key="site", requested=requested, **facts)
    features = FeatureSet(request=("x",))
    snapshot = Snapshot(table="rows", version=0, known_until=None)
    tables: Any = None
    return choose_rows(rows, regime, POLICY, features, snapshot, SOURCES, tables)


def test_where_concepts_contradict_the_rows_of_the_value_are_chosen() -> None:
    rows = make_rows(600, contradicting=True)
    choice = choose(rows, "2")
    assert choice.value == "2"
    assert choice.loss_of_regime is not None
    assert choice.loss_of_all is not None
    assert choice.loss_of_regime < 0.5 * choice.loss_of_all
    assert set(keep_rows(rows, choice)["site"]) == {2.0}
    (verdict,) = judge_need(choice, POLICY)
    assert (verdict.check, verdict.outcome, verdict.action) == ("binding", "pass", "proceed")


def test_where_a_model_of_all_rows_is_as_good_nothing_is_bound() -> None:
    rows = make_rows(600, contradicting=False)
    fresh = choose(rows, "2")
    assert (fresh.value, fresh.is_known) == ("", False)
    assert keep_rows(rows, fresh).height == 600
    assert judge_need(fresh, POLICY)[0].action == "proceed"
    known = choose(rows, "2", learned=(BEGIN, BEGIN + timedelta(minutes=400)))
    assert known.is_known
    (verdict,) = judge_need(known, POLICY)
    assert verdict.action == "stop"
    assert "no release is bound, and the champion has learned most of them" in verdict.reason


def test_the_champion_learns_the_rows_that_it_serves() -> None:
    rows = make_rows(600, contradicting=True)
    choice = choose(rows, bound=("2",))
    kept = keep_rows(rows, choice)
    assert set(kept["site"].drop_nulls()) == {1.0}
    assert kept["site"].null_count() == 1
    assert judge_need(choice, POLICY) == []
    everything = choose(rows, bound=("1", "2"))
    assert keep_rows(rows, everything).height == 600, "too few rows are left, so it learns all"


def test_a_value_with_a_bound_release_is_not_compared_with_all_rows_again() -> None:
    choice = choose(make_rows(600, contradicting=False), "2", bound=("2",))
    assert (choice.value, choice.loss_of_all) == ("2", None)
    assert judge_need(choice, POLICY) == []


def test_too_few_rows_of_a_value_and_a_missing_column_are_errors() -> None:
    rows = make_rows(600, contradicting=True)
    with pytest.raises(DataError, match="only 0 labelled rows with site = 'X' are in 'rows' yet"):
        choose(rows, "X")
    with pytest.raises(DataError, match="source 'rows' has no column 'site', which names the regimes"):
        choose(rows.drop("site"))
