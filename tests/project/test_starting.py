"""New projects: a policy that fits the table it is written for."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tidemill.core.policy import Policy
from tidemill.data.timestamps import find_later_times
from tidemill.delta import require_usable_folder
from tidemill.errors import InputError
from tidemill.project.configuration import read_policy
from tidemill.project.guessing import TableGuess, guess_columns
from tidemill.project.starting import write_project

NOW = datetime(2026, 3, 2, tzinfo=UTC)


def started(folder: Path, table: pl.DataFrame, time: str = "") -> Policy:
    folder.parent.mkdir(parents=True, exist_ok=True)
    file = folder.parent / "table.parquet"
    table.write_parquet(file)
    write_project(folder, guess_columns(table, "late", time=time), file)
    return read_policy(folder / "tidemill.toml")


def guess(table: pl.DataFrame, time: str = "") -> TableGuess:
    return guess_columns(table, "late", time=time, in_future=find_later_times(table, NOW + timedelta(days=1)))


def visits(a_day: int, days: int = 30) -> pl.DataFrame:
    """Rows until yesterday, a day's at one time."""
    times = [NOW - timedelta(days=days - day) for day in range(days) for _ in range(a_day)]
    late = [place % 3 == 0 for place in range(len(times))]
    return pl.DataFrame({"at": times, "größe": [place % 7 for place in range(len(times))], "late": late})


@pytest.mark.parametrize(
    ("a_day", "window", "labels", "longest"),
    [(2, "28d", 20, "37d"), (6, "28d", 20, "13d"), (20, "14d", 20, "4d"), (50, "7d", 30, "3d")],
)
def test_the_watch_looks_back_as_far_as_rows_come(
    tmp_path: Path, a_day: int, window: str, labels: int, longest: str
) -> None:
    (model,) = started(tmp_path / "mine", visits(a_day)).models.values()
    by_name = {value.value: value for value in model.watch.values}
    assert by_name["log_loss"].window == by_name["drift"].window == window
    assert (model.rollout.minimum, model.rollout.maximum) == (labels, longest)
    assert 0.02 <= model.rollout.margin <= 0.15


def test_a_new_project_refuses_requests_that_do_not_fit_and_an_older_one_predicts_them(tmp_path: Path) -> None:
    policy = started(tmp_path / "mine", visits(20))
    assert policy.strict_models == {"mine"}
    file = tmp_path / "mine" / "tidemill.toml"
    file.write_text("\n".join(line for line in file.read_text().splitlines() if not line.startswith("strict")))
    assert read_policy(file).strict_models == frozenset()


@pytest.mark.parametrize(("a_day", "limit"), [(1000, 14.0), (20, 14.0), (6, 35.0), (0.1, 364.0)])
def test_a_model_is_fitted_again_when_there_can_be_enough_new_rows(tmp_path: Path, a_day: float, limit: float) -> None:
    at = [NOW - timedelta(days=row / a_day) for row in range(300)]
    table = pl.DataFrame({"at": at, "n": [row % 7 for row in range(300)], "late": [row % 2 == 0 for row in range(300)]})
    (model,) = started(tmp_path / "mine", table).models.values()
    assert [value.limit for value in model.watch.values if value.value == "age"] == [limit]
    assert [value.limit for value in model.watch.values if value.value == "growth"] == [0.1]
    assert model.rollout.refresh_share == 0.95


def test_without_an_event_time_the_age_of_a_model_is_not_watched(tmp_path: Path) -> None:
    (model,) = started(tmp_path / "mine", visits(20).drop("at")).models.values()
    assert not {"age", "growth"} & {value.value for value in model.watch.values}


@pytest.mark.parametrize(
    "times",
    [pl.Series(["2026-03-01T10:00:00", "2026-02-01"]), pl.Series([NOW.date(), NOW.date()])],
    ids=["text", "one day"],
)
def test_times_are_times_however_they_are_written(tmp_path: Path, times: pl.Series) -> None:
    table = pl.DataFrame({"at": times, "n": [1, 2], "late": [True, False]})
    (model,) = started(tmp_path / "mine", table, time="at").models.values()
    assert "age" in {value.value for value in model.watch.values}


def test_times_of_which_some_have_no_zone_are_times(tmp_path: Path) -> None:
    times = ["2026-02-01T00:00:00", *["2026-03-01T00:00:00Z"] * 59]
    table = visits(2).with_columns(at=pl.Series(times))
    assert guess_columns(table, "late", time="at").newest == datetime(2026, 3, 1, tzinfo=UTC)
    assert "age" in [value.value for value in started(tmp_path / "mine", table, time="at").models["mine"].watch.values]


@pytest.mark.parametrize("odd", [float("inf"), float("nan")])
def test_the_limits_of_a_regression_are_those_of_its_numbers(tmp_path: Path, odd: float) -> None:
    numbers = pl.Series([place * 1.1 for place in range(59)] + [odd])
    (model,) = started(tmp_path / "mine", visits(2).with_columns(late=numbers)).models.values()
    assert 0 < model.gate.margin < 20
    assert 0 < model.watch.values[0].limit < 20


def test_an_event_time_of_numbers_is_refused() -> None:
    with pytest.raises(InputError, match="column 'größe' has the type Int64, which is not a time"):
        guess_columns(visits(2), "late", time="größe")


@pytest.mark.parametrize("kind", ["date", "time", "text"])
def test_an_event_time_in_the_future_is_refused(kind: str) -> None:
    late = pl.Series("at", [datetime(2026, 3, 1, tzinfo=UTC)] * 57 + [datetime(9999, 12, 31, tzinfo=UTC)] * 3)
    late = {"date": late.dt.date(), "time": late, "text": late.dt.to_string("iso:strict")}[kind]
    with pytest.raises(InputError, match="column 'at' has 3 times in the future, such as 9999-12-31"):
        guess(visits(2).with_columns(late), time="at")


def test_a_column_with_times_in_the_future_is_not_guessed_as_the_event_time() -> None:
    due = pl.Series("due", [datetime(2999, 1, 1, tzinfo=UTC)] * 60)
    table = visits(2)
    found = guess(table.select(due, *table.columns))
    assert (found.time, found.in_future, "due" in found.excluded) == ("at", ("due",), True)
    assert guess(table.drop("at").with_columns(due)).time is None


def test_a_column_with_values_where_the_label_has_them_is_no_input() -> None:
    table = visits(3).with_columns(size=pl.col("größe") + 1, half=pl.col("größe") / 2)
    late = pl.int_range(pl.len()) % 4 == 0
    table = table.with_columns(pl.when(late).then(None).otherwise(pl.col("late", "size")).name.keep())
    found = guess_columns(table, "late")
    assert "half" in found.inputs
    assert found.excluded["size"] == "it has values exactly where the label has: it becomes known later"


def test_a_regression_of_text_is_refused() -> None:
    with pytest.raises(InputError, match="label 'late' has the type String, which is not a number"):
        guess_columns(visits(2).with_columns(late=pl.Series(["a", "b"] * 30)), "late", task="regression")


def test_it_trains_for_a_reason_and_not_for_each_delivery(tmp_path: Path) -> None:
    policy = started(tmp_path / "mine", visits(20))
    trains = {one.name: one for one in policy.triggers if one.pipeline == "training"}
    assert {one.on for one in trains.values()} == {"champion.missing", "verdict"}
    assert trains["worse or different"].budget == 1
    assert {one.pipeline for one in policy.triggers if one.on == "data"} == {"ingestion"}


@pytest.mark.parametrize(
    ("folder", "name"), [("häuser", "hauser"), ("北京", "project"), ("2024 (a) *?", "a"), ("é\u0301té_1", "ete_1")]
)
def test_a_folder_of_any_name_is_a_project(tmp_path: Path, folder: str, name: str) -> None:
    table = visits(2).rename({"größe": 'a "b"\n\\ #'})
    policy = started(tmp_path / folder, table)
    assert policy.name == name
    assert list(policy.models) == [name]
    assert (tmp_path / folder / policy.sources["rows"].path).is_file()
    assert not set("*?[]") & set(policy.sources["rows"].path)


def test_what_is_left_out_is_reported_in_a_comment_whatever_it_is_called(tmp_path: Path) -> None:
    table = visits(2).with_columns(pl.lit(1).alias("one\n[gate]\nvalue"))
    (model,) = started(tmp_path / "mine", table).models.values()
    assert model.inputs.request == ("at", "größe")


def test_what_numbers_the_rows_is_no_input() -> None:
    table = visits(20).with_row_index("bestell nr").with_columns(pl.col("bestell nr").cast(pl.Int64) * 3 // 2)
    found = guess_columns(table, "late")
    assert found.excluded == {"bestell nr": "it numbers the rows"}
    assert "größe" in found.inputs
    few = guess_columns(table.head(50), "late")
    assert "bestell nr" in few.inputs


@pytest.mark.parametrize("name", ["", "index", "Unnamed: 0"])
def test_a_row_number_is_no_input_also_in_a_small_table_and_without_a_name(name: str) -> None:
    table = (
        visits(2).with_columns(late=pl.int_range(pl.len()) % 3 == 0).with_columns(pl.int_range(pl.len()).alias(name))
    )
    found = guess_columns(table, "late")
    assert name not in found.inputs
    assert found.excluded[name] == "it numbers the rows"


@pytest.mark.parametrize("value", [float("inf"), 1e300, float("nan")])
def test_the_limits_of_a_label_with_huge_values_are_finite(value: float, tmp_path: Path) -> None:
    labels = pl.Series("late", [value if row == 7 else row / 4 for row in range(visits(3).height)])
    table = visits(3).with_columns(labels)
    table.write_csv(file := tmp_path / "a.csv")
    write_project(tmp_path / "p", guess_columns(table, "late"), file)
    assert read_policy(tmp_path / "p" / "tidemill.toml").models["p"].problem.task == "regression"


@pytest.mark.parametrize(("a_day", "rows"), [(20, 50), (150, 50), (1000, 280)])
def test_the_trigger_of_recall_is_a_comment_that_compares_at_most_four_times_a_day(
    tmp_path: Path, a_day: int, rows: int
) -> None:
    policy = started(tmp_path / "mine", visits(a_day, 10), time="at")
    assert [trigger.name for trigger in policy.triggers if trigger.pipeline == "recalling"] == []
    assert policy.models["mine"].training.rows == "all"
    file = tmp_path / "mine" / "tidemill.toml"
    file.write_text(
        re.sub(r"(?m)^# (?=\[\[triggers|name = \"newest|on = \"pred|rows = |pipeline|cooldown)", "", file.read_text())
    )
    (recall,) = [trigger for trigger in read_policy(file).triggers if trigger.pipeline == "recalling"]
    assert (recall.name, recall.on, recall.rows) == ("newest rows", "predictions", rows)


@pytest.mark.parametrize("name", ["w[1]", "a^b", "a|b", "a\\b", "a%41"])
def test_a_folder_that_no_table_can_have_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="it can contain no tables of rows") as refused:
        require_usable_folder(tmp_path / name)
    assert refused.value.cure
    require_usable_folder(tmp_path / "Übung é # ? * % 5%zz")


def test_a_release_that_waits_is_a_reason_to_look(tmp_path: Path) -> None:
    policy = started(tmp_path / "mine", visits(20))
    assert "release.waiting" in [trigger.on for trigger in policy.triggers if trigger.pipeline == "watching"]
