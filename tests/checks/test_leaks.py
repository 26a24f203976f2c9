"""What a split lets through is found by kind, and each way to split holds what it is held to."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.checks.gate import Finding
from tidemill.checks.leaks import find_leaks, measure_dependence
from tidemill.data.split import Split, split_at_random, split_by_group, split_by_time
from tidemill.errors import DataError

START = datetime(2013, 1, 1, tzinfo=UTC)
ROWS = pl.DataFrame(
    {
        "id": range(200),
        "patient": [f"é{place % 40}" if place % 40 else None for place in range(200)],
        "x": [(place * 7919 % 200) ** 0.5 for place in range(200)],
        "ill": [place * 31 % 3 == 0 for place in range(200)],
        "_tidemill_time": [START + timedelta(hours=place) for place in range(200)],
    }
)
RANDOM = split_at_random(ROWS, 0.2, 0.0, 0)


COPIED = split_at_random(pl.concat([ROWS, ROWS.with_columns(pl.col("_tidemill_time").dt.offset_by("1w"))]), 0.2, 0.0, 0)


def look(train: pl.DataFrame, test: pl.DataFrame, **options: Any) -> list[Finding]:
    stated: dict[str, Any] = {"inputs": ("x",), "label": "ill", "key": (), "timed": False, "most": 0.98}
    return find_leaks(train, test, **stated | options)


@pytest.mark.parametrize(
    ("parts", "options"),
    [
        (split_by_time(ROWS, "2d", 0.2, 0.1), {"key": ("id",), "timed": True}),
        (split_by_group(ROWS, "patient", 0.2, 0.1, 0), {"group": "patient"}),
        (RANDOM, {"key": ("id",)}),
        (Split(ROWS, ROWS, ROWS.clear()), {"timed": True, "group": "patient"}),
        (Split(ROWS.clear(), ROWS.clear(), ROWS), {"timed": True, "group": "patient"}),
    ],
    ids=["by time", "by group", "at random", "nothing to test on", "nothing to learn from"],
)
def test_a_clean_split_passes(parts: Split, options: dict[str, Any]) -> None:
    (found,) = look(pl.concat([parts.train, parts.validation]), parts.test, **options)
    assert (found.about, found.outcome) == ("leaks", "pass")


def test_rows_without_a_key_are_no_copies_of_each_other() -> None:
    without_key = RANDOM.test.with_columns(id=pl.lit(None, pl.Int64))
    served = [without_key.with_columns(pl.col("x") + shift) for shift in (0.1234567, 0.2345678)]
    train, test = (pl.concat([part, rows]) for part, rows in zip((RANDOM.train, RANDOM.test), served, strict=True))
    (found,) = look(train, test, key=("id",))
    assert (found.about, found.outcome) == ("leaks", "pass")
    copied = pl.concat([test, served[0]])
    assert [finding.about for finding in look(train, copied, key=("id",))] == ["test rows"]


@pytest.mark.parametrize(
    ("test", "options", "about", "message"),
    [
        (pl.concat([RANDOM.test, RANDOM.train.head(1)]), {"key": ("id",)}, "test rows", "2% of the test rows"),
        (pl.concat([RANDOM.test, RANDOM.train.head(10)]), {}, "test rows", "20% of the test rows"),
        (COPIED.test, {"train": COPIED.train}, "test rows", "% of the test rows are among its training rows"),
        (RANDOM.test, {"group": "patient"}, "groups", "test rows belong to 28 values of 'patient'"),
        (RANDOM.test, {"timed": True}, "future", "of its training rows are later than the first test row"),
    ],
    ids=["the same rows", "whole rows", "a table twice", "the same patients", "the future"],
)
def test_each_leak_is_found(test: pl.DataFrame, options: dict[str, Any], about: str, message: str) -> None:
    (found,) = look(**{"train": RANDOM.train, "test": test} | options)
    assert (found.about, found.outcome) == (about, "fail")
    assert message in found.reason


@given(patients=st.lists(st.sampled_from(["a", "b", "ç", None]), min_size=2, max_size=30), cut=st.integers(1, 29))
def test_groups_on_both_sides_are_counted(patients: list[str | None], cut: int) -> None:
    rows = pl.DataFrame({"patient": pl.Series(patients, dtype=pl.String), "x": range(len(patients))})
    both = set(patients[:cut]) & set(patients[cut:]) - {None}
    found = look(rows[:cut].with_columns(ill=True), rows[cut:].with_columns(ill=True), group="patient")
    counts = [one.evidence["shared_groups"] for one in found if one.about == "groups"]
    assert counts == ([len(both)] if both else [])


def test_patients_on_both_sides_are_what_a_split_by_time_is_about() -> None:
    parts = split_by_time(ROWS, "2d", 0.2, 0.0)
    assert set(parts.train["patient"]) & set(parts.test["patient"])
    assert [one.about for one in look(parts.train, parts.test, timed=True)] == ["leaks"]


def test_rows_of_which_a_part_of_the_key_is_gone_are_compared_as_a_whole() -> None:
    key = ("patient", "id")
    (found,) = look(RANDOM.train.drop("id"), RANDOM.test.drop("id"), key=key)
    assert found.outcome == "pass", "visits of a patient are no copies"
    (found,) = look(RANDOM.train.drop("id"), pl.concat([RANDOM.test, RANDOM.train.head(10)]).drop("id"), key=key)
    assert found.about == "test rows"


def test_a_split_that_loses_the_groups_is_reported() -> None:
    with pytest.raises(DataError, match="no column 'patient'") as raised:
        look(RANDOM.train, RANDOM.test.drop("patient"), group="patient")
    assert "the split step" in (raised.value.cure or "")


@pytest.mark.parametrize(("name", "warned"), [("is_train", True), ("Fold", True), ("strain", False)])
def test_an_input_that_names_the_side_is_a_warning(name: str, warned: bool) -> None:
    train, test = RANDOM.train.with_columns(pl.lit("a").alias(name)), RANDOM.test.with_columns(pl.lit("b").alias(name))
    found = look(train, test, inputs=("x", name))
    assert [(one.about, one.outcome) for one in found] == [("sides", "warn") if warned else ("leaks", "pass")]
    assert [one.about for one in look(train, test)] == ["leaks"], "what is no input says nothing"
    assert [one.about for one in look(train, train[:0], inputs=("x", name))] == ["leaks"]


@pytest.mark.parametrize("digits", [0, 1, 2, 15])
@pytest.mark.parametrize("rows", [100, 2_000])
def test_rows_that_are_alike_by_chance_are_no_copies(rows: int, digits: int) -> None:
    for seed in range(20):
        random = np.random.default_rng(seed)
        measured = np.round(random.exponential(20, rows), digits)
        table = pl.DataFrame({"x": measured, "ill": random.random(rows) < 0.5, "_tidemill_time": [START] * rows})
        parts = split_at_random(table, 0.2, 0.0, seed)
        assert [one.outcome for one in look(parts.train, parts.test)] == ["pass"]


def _tailed(random: np.random.Generator, rows: int) -> Any:
    return np.round(random.lognormal(3, 2, rows), 1)


def _with_outlier(random: np.random.Generator, rows: int) -> Any:
    return np.append(np.round(random.exponential(20, rows - 2), 1), [1e6, np.inf])


def _prices(random: np.random.Generator, rows: int) -> Any:
    return np.round(random.lognormal(3, 2, rows)) + 0.99


def _often_nothing(random: np.random.Generator, rows: int) -> Any:
    return np.where(random.random(rows) < 0.5, 0.0, random.exponential(20, rows))


def _often_nothing_else_tiny(random: np.random.Generator, rows: int) -> Any:
    return _often_nothing(random, rows) * 1e-9


def _of_few_places(random: np.random.Generator, rows: int) -> Any:
    return random.choice(random.random(100), rows)


@pytest.mark.parametrize(
    "drawn", [_tailed, _with_outlier, _prices, _often_nothing, _often_nothing_else_tiny, _of_few_places]
)
def test_numbers_that_crowd_make_no_copies(drawn: Any) -> None:
    for seed in range(10):
        random = np.random.default_rng(seed)
        table = pl.DataFrame(
            {"x": drawn(random, 2_000), "ill": random.random(2_000) < 0.5, "_tidemill_time": [START] * 2_000}
        )
        parts = split_at_random(table, 0.2, 0.0, seed)
        assert [one.outcome for one in look(parts.train, parts.test)] == ["pass"]


@pytest.mark.parametrize("unit", [1e-6, 1.0])
def test_a_table_twice_is_reported_whatever_the_unit_of_its_numbers(unit: float) -> None:
    random = np.random.default_rng(0)
    table = pl.DataFrame({"x": random.lognormal(3, 2, 500) * unit, "ill": random.random(500) < 0.5})
    twice = pl.concat([table, table]).with_columns(_tidemill_time=pl.lit(START))
    parts = split_at_random(twice, 0.2, 0.0, 0)
    assert [one.about for one in look(parts.train, parts.test)] == ["test rows"]


@pytest.mark.parametrize("times", [2, 4, 10])
@pytest.mark.parametrize("kind", ["cents", "words", "codes and words", "measured", "decimals", "days"])
def test_copies_of_rows_are_found_whatever_the_types_of_the_columns(kind: str, times: int) -> None:
    """On both sides of the split of a project, and where a random split keeps them on one."""
    random = np.random.default_rng(3)
    number = random.integers(0, 10**6, (300, 2))
    columns: dict[str, dict[str, Any]] = {
        "cents": {"x": number[:, 0], "z": number[:, 1]},
        "words": {"x": [f"é{one}" for one in number[:, 0]]},
        "codes and words": {"x": number[:, 0] % 7, "z": [str(one) for one in number[:, 1]]},
        "measured": {"x": random.normal(size=300), "z": number[:, 0] % 3},
        "decimals": {"x": [Decimal(int(one)) / 100 for one in number[:, 0]]},
        "days": {"x": [START + timedelta(minutes=int(one)) for one in number[:, 0]], "z": number[:, 1] % 2},
    }
    table = pl.DataFrame(columns[kind] | {"ill": random.random(300) < 0.4, "_tidemill_time": [START] * 300})
    copied = pl.concat([table] * times).sample(fraction=1, shuffle=True, seed=0)
    inputs = tuple(columns[kind])
    parts = split_at_random(copied, 0.2, 0.0, 0)
    for train, test, reason in (
        (copied[:-200], copied[-200:], "of the test rows are among its training rows"),
        (parts.train, parts.test, "100% of the rows are copies of other rows"),
    ):
        (found,) = (one for one in look(train, test, inputs=inputs) if one.about == "test rows")
        assert found.outcome == "fail"
        assert reason in found.reason
    parts = split_at_random(table, 0.2, 0.0, 0)
    assert [one.about for one in look(parts.train, parts.test, inputs=inputs)] == ["leaks"]


@pytest.mark.parametrize("positives", [0.02, 0.5])
def test_categories_that_are_alike_by_nature_are_no_copies(positives: float) -> None:
    for seed in range(5):
        random = np.random.default_rng(seed)
        city = random.integers(0, 800, 2_000)
        table = pl.DataFrame(
            {
                "city": [f"c{one}" for one in city],
                "age": random.integers(18, 90, 2_000),
                "member": random.random(2_000) < 0.3,
                "ill": random.random(2_000) < positives,
                "_tidemill_time": [START] * 2_000,
            }
        )
        for inputs in (("city",), ("age",), ("age", "member"), ("member",), ("city", "age")):
            parts = split_at_random(table.select(*inputs, "ill", "_tidemill_time"), 0.2, 0.0, seed)
            found = look(parts.train, parts.test, inputs=inputs)
            assert [one.outcome for one in found] == ["pass"], (inputs, found[0].reason)


@pytest.mark.parametrize("rows", [20, 60, 120, 1_000])
def test_a_copy_of_the_label_is_found_in_small_tables(rows: int) -> None:
    random = np.random.default_rng(1)
    species = np.arange(rows) % 3
    table = pl.DataFrame(
        {
            "species": np.array(["setosa", "virginica", "ç"])[species],
            "code": np.array([7, 2, 5])[species],
            "word": np.array(["x", "b", "k"])[species],
            "noise": random.normal(size=rows),
            "side": random.integers(0, 3, rows),
            "price": random.random(rows),
        }
    ).with_columns(cents=pl.col("price") * -100, index=pl.int_range(rows))
    for name, label, leaks in (
        ("code", "species", True),
        ("word", "species", True),
        ("cents", "price", True),
        ("noise", "species", False),
        ("side", "species", False),
        ("noise", "price", False),
    ):
        found = look(table, table[:0], inputs=(name,), label=label)
        assert [one.about for one in found] == (["leak"] if leaks else ["leaks"]), (name, found)
        if not leaks:
            assert ("not examined" in found[0].reason) == (rows < 200)


def test_what_could_not_be_examined_is_listed() -> None:
    (found,) = look(ROWS[:15].with_columns(code=pl.col("ill")), ROWS[:0], inputs=("code",))
    assert "not examined" in found.reason
    assert "no leak found from" not in found.reason


def test_an_input_that_numbers_the_rows_is_a_warning() -> None:
    parts = split_at_random(ROWS, 0.2, 0.0, 0)
    (found,) = look(parts.train, parts.test, inputs=("id", "x"))
    assert (found.about, found.outcome, found.evidence) == ("numbers", "warn", {"numbering": ["id"]})
    shuffled = ROWS.with_columns(id=pl.col("id") * 3)
    assert [one.about for one in look(shuffled[:160], shuffled[160:], inputs=("id", "x"))] == ["leaks"]


def test_a_row_number_of_a_sorted_table_shows_the_label() -> None:
    rows = ROWS.with_columns(ill=pl.col("id") >= 100, x=pl.int_range(200) * 3)
    shuffled = pl.concat([rows] * 1).sample(fraction=1, shuffle=True, seed=0)
    (found,) = look(shuffled, shuffled[:0], inputs=("x",))
    assert (found.about, found.evidence["leaking_input"]) == ("leak", "x")


@pytest.mark.parametrize("kind", [pl.Date, pl.Datetime("us", "UTC")])
def test_a_time_that_is_only_there_for_one_class_shows_it(kind: pl.DataType) -> None:
    train = RANDOM.train if RANDOM.train.height >= 200 else pl.concat([RANDOM.train] * 4)
    cancelled = train.with_columns(
        paid=pl.when(pl.col("ill") == train["ill"][0]).then(pl.col("_tidemill_time")).cast(kind)
    )
    found = look(cancelled, RANDOM.test, inputs=("x", "paid"), key=("id",))
    assert [(one.about, one.evidence.get("leaking_input")) for one in found if one.about == "leak"] == [
        ("leak", "paid")
    ]
    always = train.with_columns(paid=pl.col("_tidemill_time").cast(kind))
    assert not [one for one in look(always, RANDOM.test, inputs=("x", "paid"), key=("id",)) if one.about == "leak"]


def test_the_label_itself_is_found_however_rare_and_however_it_is_coded() -> None:
    random = np.random.default_rng(5)
    for share in (0.004, 0.3):
        truth = random.random(20_000) < share
        code = np.where(truth, random.integers(0, 20, 20_000), random.integers(20, 80, 20_000)) * 37 % 80
        rows = pl.DataFrame({"y": truth, "same": truth.astype(int), "code": [f"c{one:02}" for one in code]})
        rows = rows.with_columns(
            noise=pl.Series(random.normal(size=20_000)), number=pl.Series(random.permutation(20_000)).cast(pl.String)
        )
        dependences = {name: measure_dependence(rows[name], rows["y"]) for name in ("same", "code", "noise", "number")}
        assert min(dependences["same"], dependences["code"]) > 0.99, dependences
        assert max(dependences["noise"], dependences["number"]) < 0.2, dependences


@pytest.mark.parametrize("positives", [20, 100])
def test_a_strong_honest_input_of_a_rare_class_is_no_leak(positives: int) -> None:
    dependences = []
    for seed in range(20):
        random = np.random.default_rng(seed)
        truth = np.arange(20_000) < positives
        rows = pl.DataFrame({"y": truth, "x": random.normal(size=20_000) + 4 * truth}).sample(fraction=1, shuffle=True)
        dependences.append(measure_dependence(rows["x"], rows["y"]))
    assert sum(value > 0.98 for value in dependences) <= 1, dependences
