"""Splits: nobody learns from the future, and what happened together stays together."""

import itertools
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tidemill.data.folds import split_folds
from tidemill.data.split import split_at_random, split_by_group, split_by_time, split_stratified
from tidemill.errors import DataError

START = datetime(2013, 1, 1, tzinfo=UTC)


def frame(*hours: int) -> pl.DataFrame:
    times = pl.Series(
        "_tidemill_time", [START + timedelta(hours=hour) for hour in hours], dtype=pl.Datetime("us", "UTC")
    )
    return pl.DataFrame([times, pl.Series("row", range(len(hours)), dtype=pl.Int64)])


@given(
    hours=st.lists(st.integers(0, 40), min_size=2, max_size=80),
    test=st.sampled_from(["1h", "12h", "5d"]),
    share=st.floats(0.05, 0.6),
    validation=st.floats(0, 0.5),
)
@settings(deadline=None)
def test_each_part_is_after_the_one_before_and_no_moment_is_cut(
    hours: list[int], test: str, share: float, validation: float
) -> None:
    assume(len(set(hours)) > 2)
    parts = split_by_time(frame(*hours), test, share, validation)
    rows = [row for part in parts for row in part["row"]]
    assert sorted(rows) == list(range(len(hours)))
    assert parts.train.height > 0
    assert parts.test.height > 0
    filled = [part["_tidemill_time"] for part in parts if part.height]
    for earlier, later in itertools.pairwise(filled):
        assert earlier.max() < later.min()  # type: ignore[operator]


def test_the_test_is_the_newest_span_of_time() -> None:
    parts = split_by_time(frame(*range(100)), "10h", 0.5, 0.2)
    assert (parts.train.height, parts.validation.height, parts.test.height) == (72, 18, 10)
    assert parts.test["row"].to_list() == list(range(90, 100))


@pytest.mark.parametrize("test", ["90h", "999d"])
def test_a_span_that_takes_most_of_the_rows_gives_way_to_the_share(test: str) -> None:
    assert split_by_time(frame(*range(100)), test, 0.3, 0.0).test.height == 30


def test_no_validation_is_asked_for() -> None:
    parts = split_by_time(frame(*range(100)), "10h", 0.2, 0.0)
    assert (parts.train.height, parts.validation.height) == (90, 0)


def test_many_rows_of_the_first_moment_stay_together() -> None:
    parts = split_by_time(frame(*[0] * 90, *range(1, 11)), "400d", 0.2, 0.5)
    assert (parts.train.height, parts.test.height) == (90, 10)


@pytest.mark.parametrize("hours", [[], [0]])
def test_too_few_rows_are_reported(hours: list[int]) -> None:
    with pytest.raises(DataError, match="too few rows") as raised:
        split_by_time(frame(*hours), "1h", 0.2, 0.2)
    assert raised.value.cure
    with pytest.raises(DataError, match="too few rows"):
        split_at_random(frame(*hours), 0.2, 0.2, 0)


def test_rows_of_one_moment_only_are_still_split() -> None:
    parts = split_by_time(frame(*[3] * 10), "1h", 0.2, 0.0)
    assert (parts.train.height, parts.test.height) == (8, 2)


def test_a_random_split_is_the_same_for_a_seed_and_loses_nothing() -> None:
    rows = frame(*range(100))
    one, other = split_at_random(rows, 0.2, 0.1, 3), split_at_random(rows, 0.2, 0.1, 3)
    assert all(a.equals(b) for a, b in zip(one, other, strict=True))
    assert not one.test.equals(split_at_random(rows, 0.2, 0.1, 4).test)
    assert (one.train.height, one.validation.height, one.test.height) == (72, 8, 20)
    assert sorted(row for part in one for row in part["row"]) == list(range(100))


@given(
    groups=st.lists(st.sampled_from(["a", "b", "c", "d", "é", None]), min_size=12, max_size=80),
    share=st.floats(0.1, 0.5),
    validation=st.floats(0, 0.5),
    seed=st.integers(0, 5),
)
@settings(deadline=None)
def test_a_group_is_on_one_side_only_and_no_row_is_lost(
    groups: list[str | None], share: float, validation: float, seed: int
) -> None:
    rows = pl.DataFrame({"g": pl.Series(groups, dtype=pl.String), "row": range(len(groups))})
    try:
        parts = split_by_group(rows, "g", share, validation, seed)
    except DataError as raised:
        assert "fewer than two values" in raised.problem  # noqa: PT017 - one group may have them all
        return
    assert sorted(row for part in parts for row in part["row"]) == list(range(len(groups)))
    for one, other in itertools.combinations(parts, 2):
        assert not set(one["g"]) & set(other["g"])
    assert all(a.equals(b) for a, b in zip(parts, split_by_group(rows, "g", share, validation, seed), strict=True))


@given(
    sizes=st.lists(st.integers(1, 20), min_size=3, max_size=12),
    share=st.floats(0.1, 0.5),
    validation=st.floats(0.1, 0.5),
    seed=st.integers(0, 5),
)
@settings(deadline=None)
def test_parts_by_group_are_as_large_as_asked_but_for_half_a_group(
    sizes: list[int], share: float, validation: float, seed: int
) -> None:
    rows = pl.DataFrame({"g": [place for place, size in enumerate(sizes) for _ in range(size)]})
    parts = split_by_group(rows, "g", share, validation, seed)
    assert parts.train.height > 0
    assert parts.test.height > 0
    assert (parts.validation.height > 0) == (len(sizes) - parts.test["g"].n_unique() > 1)
    for part, whole, wanted in (
        (parts.test, rows.height, share),
        (parts.validation, rows.height - parts.test.height, validation),
    ):
        if part["g"].n_unique() > 1:
            assert abs(part.height - wanted * whole) <= max(sizes) / 2 + 1e-9
    shuffled = split_by_group(rows.sample(fraction=1, shuffle=True, seed=seed), "g", share, validation, seed)
    for part, other in zip(parts, shuffled, strict=True):
        assert set(part["g"]) == set(other["g"]), "who is drawn does not depend on the order of the rows"


@pytest.mark.parametrize("seed", range(5))
def test_most_rows_without_a_group_are_learned_from(seed: int) -> None:
    rows = pl.DataFrame({"g": [None] * 600 + [place // 4 for place in range(400)]})
    parts = split_by_group(rows, "g", 0.2, 0.25, seed)
    assert (parts.train.height, parts.validation.height, parts.test.height) == (600, 200, 200)


@pytest.mark.parametrize("groups", [[], ["a"], ["a"] * 9])
def test_one_group_cannot_be_split(groups: list[str]) -> None:
    with pytest.raises(DataError, match="'rows' has fewer than two values"):
        split_by_group(pl.DataFrame({"rows": pl.Series(groups, dtype=pl.String)}), "rows", 0.2, 0.2, 0)


def test_a_group_split_takes_about_the_share() -> None:
    rows = pl.DataFrame({"g": [place // 10 for place in range(1000)]})
    parts = split_by_group(rows, "g", 0.2, 0.25, 1)
    assert (parts.train.height, parts.validation.height, parts.test.height) == (600, 200, 200)


@given(labels=st.lists(st.sampled_from(["yes", "no", "rarely"]), min_size=20, max_size=100), seed=st.integers(0, 5))
@settings(deadline=None)
def test_every_part_has_the_same_mixture_of_labels(labels: list[str], seed: int) -> None:
    rows = pl.DataFrame({"label": labels, "row": range(len(labels))})
    parts = split_stratified(rows, "label", 0.25, 0.2, seed)
    assert sorted(row for part in parts for row in part["row"]) == list(range(len(labels)))
    for label in set(labels):
        whole = labels.count(label)
        for part, share in zip(parts, (0.6, 0.15, 0.25), strict=True):
            assert abs(part["label"].to_list().count(label) - share * whole) <= 1
    assert all(a.equals(b) for a, b in zip(parts, split_stratified(rows, "label", 0.25, 0.2, seed), strict=True))


@pytest.mark.parametrize("split", [split_by_group, split_stratified])
def test_a_column_that_is_not_there_is_reported(split: Callable[..., object]) -> None:
    with pytest.raises(DataError, match="there is no column 'who'") as raised:
        split(frame(1, 2, 3), "who", 0.2, 0.2, 0)
    assert raised.value.cure


TABLES = st.lists(
    st.tuples(st.sampled_from(["a", "b", None]), st.integers(0, 3), st.sampled_from([0.5, float("nan"), -0.0, None])),
    min_size=12,
    max_size=60,
)


@given(values=TABLES, share=st.floats(0.1, 0.5), validation=st.floats(0, 0.5), seed=st.integers(0, 5))
@settings(deadline=None, max_examples=60)
def test_equal_rows_are_on_one_side_of_a_random_split_and_no_row_is_lost(
    values: list[tuple[str | None, int, float | None]], share: float, validation: float, seed: int
) -> None:
    types: dict[str, Any] = {"row": pl.String, "column_0": pl.Int64, "z": pl.Float64}
    chance = Random(0)
    measured = {row: chance.random() for row in sorted({*map(str, values)})}
    rows = pl.DataFrame(values, schema=types, orient="row").with_columns(
        id=pl.int_range(pl.len()), measured=pl.Series([measured[str(row)] for row in values], dtype=pl.Float64)
    )
    types["measured"] = pl.Float64  # numbers that no two rows have by chance
    equal = Counter(map(str, values))
    assume(len(equal) > 2)
    for parts in (
        split_at_random(rows, share, validation, seed, list(types)),
        split_stratified(rows, "row", 0.3, validation, seed, list(types)) if rows["row"].n_unique() == 1 else None,
    ):
        if parts is None:
            continue
        assert sorted(one for part in parts for one in part["id"]) == list(range(len(values)))
        for one, other in itertools.combinations(parts, 2):
            shared = {str(row) for row in one.select(list(types)).rows()} & {
                str(row) for row in other.select(list(types)).rows()
            }
            assert all(equal[row] > 20 for row in shared)


def test_copies_stay_together_and_what_is_alike_by_nature_does_not() -> None:
    copied = pl.DataFrame({"x": [((place % 100) + 0.5) ** 0.5 for place in range(400)]})
    parts = split_at_random(copied, 0.2, 0.1, 0)
    assert not set(parts.test["x"]) & (set(parts.train["x"]) | set(parts.validation["x"]))
    assert (parts.train.height, parts.validation.height, parts.test.height) == (288, 32, 80)
    coins = pl.DataFrame({"x": [place % 2 for place in range(400)]})
    assert set(split_at_random(coins, 0.2, 0.0, 0).test["x"]) == {0, 1}
    mixed = split_stratified(copied.with_columns(y=pl.col("x") > 5), "y", 0.25, 0.0, 0)
    assert not set(mixed.test["x"]) & set(mixed.train["x"])
    assert abs(mixed.test.height - 100) <= 4


def _few_classes(random: Any, rows: int) -> dict[str, Any]:
    return {
        "class": random.integers(1, 4, rows),
        "age": random.integers(0, 80, rows),
        "sex": random.integers(0, 2, rows),
    }


def _prices_of_products(random: Any, rows: int) -> dict[str, Any]:
    product = random.integers(0, 60, rows)
    return {"product": [f"p{one}" for one in product], "price": np.sqrt(product + 2.0)}


def _digits(random: Any, rows: int) -> dict[str, Any]:
    return {"full": random.integers(0, 10, rows), "gaps": random.integers(0, 10, rows)}


@pytest.mark.parametrize("draw", [_few_classes, _prices_of_products, _digits])
@pytest.mark.parametrize("kind", ["random", "stratified", "folds"])
def test_rows_of_a_table_of_few_values_are_on_both_sides_with_all_their_labels(draw: Any, kind: str) -> None:
    """Otherwise the test of a value has one label, and its training rows have the other one."""
    for seed in range(10):
        random = np.random.default_rng(seed)
        table = pl.DataFrame(draw(random, 3_000))
        effect = random.random(table.height) < 0.2 + 0.6 * (table[table.columns[-1]].rank("dense") % 2).to_numpy()
        rows = table.with_columns(y=pl.Series(effect))
        if kind == "random":
            parts = split_at_random(rows, 0.2, 0.0, seed, table.columns, "y")
            train, test = parts.train, parts.test
        elif kind == "stratified":
            parts = split_stratified(rows, "y", 0.2, 0.0, seed, table.columns)
            train, test = parts.train, parts.test
        else:
            train, test = next(split_folds(rows, "random", 5, seed=seed, label="y", alike=tuple(table.columns)))
        learned = train.group_by(table.columns).agg(learned=pl.col("y").mean())
        met = test.join(learned, on=table.columns).select(pl.col("y").cast(pl.Float64), "learned")
        assert met.height > 0.8 * test.height
        truth, learned_share = met["y"].to_numpy(), met["learned"].to_numpy()
        assert abs(truth.mean() - learned_share.mean()) < 0.06
        assert np.corrcoef(truth, learned_share)[0, 1] > 0.2


def test_rows_that_were_drawn_again_and_again_stay_together() -> None:
    """Oversampled rows are copies, although they repeat as unevenly as values that are equal by chance."""
    random = np.random.default_rng(0)
    table = pl.DataFrame({"x": random.normal(size=500), "z": random.integers(0, 3, 500), "y": random.random(500) < 0.1})
    drawn = table[random.integers(0, 500, 1_000)]
    parts = split_at_random(drawn, 0.2, 0.1, 0, ["x", "z"], "y")
    assert not set(parts.test["x"]) & (set(parts.train["x"]) | set(parts.validation["x"]))


@given(hours=st.lists(st.integers(0, 2000), min_size=10, max_size=120), minimum=st.integers(0, 60))
@settings(deadline=None)
def test_a_test_with_too_few_rows_grows_to_the_minimum_or_the_share(hours: list[int], minimum: int) -> None:
    assume(len(set(hours)) == len(hours))
    parts = split_by_time(frame(*hours), "5d", 0.3, 0.1, minimum)
    assert parts.test.height >= min(minimum, int(0.3 * len(hours)))
    plain = split_by_time(frame(*hours), "5d", 0.3, 0.1)
    if plain.test.height >= minimum:
        assert all(a.equals(b) for a, b in zip(parts, plain, strict=True))


@pytest.mark.parametrize("label", ["rows", "hash", "label", "count", "len", "index"])
def test_a_label_may_have_any_name(label: str) -> None:
    random = np.random.default_rng(0)
    table = pl.DataFrame({"x": random.integers(0, 5, 200), label: random.integers(0, 2, 200)})
    assert split_at_random(table, 0.2, 0.0, 0, ["x"], label).test.height == 40
    assert split_stratified(table, label, 0.2, 0.0, 0, ["x"]).test.height > 30
