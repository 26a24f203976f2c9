"""Folds: each row is tested by a model that was not fitted on it, on its copies or on its group."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.core.columns import TIME
from tidemill.data.copies import are_copies
from tidemill.data.folds import SplitKind, split_folds

START = datetime(2026, 1, 1, tzinfo=UTC)


def make_table(rows: int, distinct: int, seed: int) -> pl.DataFrame:
    values = np.random.default_rng(seed).integers(0, distinct, (4, rows))
    hours = [START + timedelta(hours=int(hour)) for hour in values[3]]
    return pl.DataFrame(
        # Numbers that are equal only in copies, which have the label of their row.
        {"row": range(rows), "x": np.sqrt(values[0] + 2.5), "group": values[1], "label": values[0] % 3, TIME: hours},
    )


tables = st.builds(make_table, st.integers(4, 20), st.integers(1, 9), st.integers(0, 10**6))


@given(tables, st.sampled_from(["random", "stratified", "group"]), st.integers(2, 10))
def test_each_row_is_in_the_test_of_one_fold(table: pl.DataFrame, kind: SplitKind, count: int) -> None:
    alike = ("x",)
    tested: list[int] = []
    for train, test in split_folds(table, kind, count, group="group", label="label", alike=alike):
        assert sorted([*train["row"], *test["row"]]) == list(range(table.height))
        assert train.height
        tested += test["row"].to_list()
        if kind == "group":
            assert not set(train["group"]) & set(test["group"])
        else:
            inputs = table.select("x")
            if are_copies(inputs, inputs.hash_rows(seed=0), table["label"]):
                assert not set(train["x"]) & set(test["x"])
    assert sorted(tested) == sorted(set(tested))
    assert len(tested) in (0, table.height)


@given(tables, st.integers(2, 10))
def test_by_time_the_training_rows_are_older(table: pl.DataFrame, count: int) -> None:
    tested: list[int] = []
    for train, test in split_folds(table, "time", count):
        assert train[TIME].max() < test[TIME].min()  # type: ignore[operator]
        tested += test["row"].to_list()
    assert len(tested) == len(set(tested))


def test_a_large_group_of_equal_rows_is_split() -> None:
    table = pl.DataFrame({"x": [1] * 50 + [2] * 50, "label": ["a", "b"] * 50})
    assert [test.height for _, test in split_folds(table, "random", 10, alike=("x", "label"))] == [10] * 10


def test_stratified_folds_have_nearly_the_same_shares() -> None:
    table = pl.DataFrame({"x": range(100), "label": ["rare"] * 10 + ["common"] * 90})
    counts = [test["label"].eq("rare").sum() for _, test in split_folds(table, "stratified", 10, label="label")]
    assert counts == [1] * 10


@pytest.mark.parametrize("kind", ["random", "group"])
def test_the_folds_are_the_same_for_the_same_seed(kind: SplitKind) -> None:
    table = pl.DataFrame({"x": range(30), "group": [*range(15)] * 2})

    def rows(seed: int) -> list[list[int]]:
        return [test["x"].to_list() for _, test in split_folds(table, kind, 5, seed=seed, group="group")]

    assert rows(1) == rows(1) != rows(2)
