"""A backtest has one answer for each row, and the label of that row: with and without a key, and with corrections."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.projects import make_project
from tidemill.backtest.answers import add_truth, list_labels
from tidemill.backtest.comparison import PolicyResult
from tidemill.backtest.period import choose_period
from tidemill.backtest.replay import Replay
from tidemill.backtest.sources import ReplaySources
from tidemill.backtest.summary import summarize
from tidemill.core.backtest import Backtest
from tidemill.core.columns import ROW_ID, TIME
from tidemill.core.policy import Problem
from tidemill.core.source import Source
from tidemill.data.source import FileSources
from tidemill.errors import TidemillError
from tidemill.project.project import Project

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PROBLEM = Problem(decision="d", source="rows", label="late", task="classification")


def replay(rows: pl.DataFrame, seed: int | None, **definition: Any) -> ReplaySources:
    with TemporaryDirectory() as folder:
        rows.write_parquet(Path(folder) / "rows.parquet")
        source = Source(path="rows.parquet", time="at", **definition)
        options = Backtest(shuffle=seed is not None, seed=seed or 0)
        files = FileSources(Path(folder), {"rows": source})
        return ReplaySources(Path(folder), files, "rows", NOON, options)


def answer(sources: ReplaySources) -> pl.DataFrame:
    """Return the answers to all rows, as a service that knows the input `x` gives them, with the truth."""
    served = sources.rows.select(pl.col(ROW_ID).alias("key"), pl.col(TIME).alias("time"), "x")
    return add_truth(served, list_labels(sources.rows, PROBLEM), served.height)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 1), st.sampled_from([True, False, None])), min_size=1, max_size=20
    ),
    st.none() | st.integers(0, 3),
)
@settings(max_examples=40, deadline=None)
def test_the_answers_of_a_table_are_the_same_with_and_without_a_key(table: list[Any], seed: int | None) -> None:
    """Few times and values, so that most rows share their time, and many are equal."""
    rows = pl.DataFrame(
        [(number, NOON + timedelta(hours=hour), x, late) for number, (hour, x, late) in enumerate(table)],
        schema={"id": pl.Int64, "at": pl.Datetime("us", "UTC"), "x": pl.Int64, "late": pl.Boolean},
        orient="row",
    )
    with_key = replay(rows, seed, key=("id",))
    without = replay(rows.drop("id"), seed)
    assert answer(with_key).equals(answer(without))
    found = pl.concat([answer(with_key), with_key.rows.select("late")], how="horizontal")
    expected = found["late"].cast(pl.String)
    assert found["truth"].equals(expected, null_equal=True)
    assert found.height == len(table)


def test_equal_rows_of_one_time_have_one_answer_each() -> None:
    rows = pl.DataFrame({"at": [NOON] * 300, "x": [1] * 300, "late": [True, False, None] * 100})
    answers = answer(replay(rows, None))
    assert answers.height == 300
    assert answers["truth"].to_list() == ["true", "false", None] * 100


def test_labels_have_the_spelling_that_the_policy_declares() -> None:
    sources = replay(pl.DataFrame({"at": [NOON] * 3, "x": [1, 2, 3], "late": ["Y", "no", None]}), None)
    labels = list_labels(sources.rows, replace(PROBLEM, spellings={"Y": "yes"}))
    assert labels["value"].to_list() == ["yes", "no"]


def test_a_row_without_an_answer_is_an_error() -> None:
    sources = replay(pl.DataFrame({"at": [NOON] * 2, "x": [1] * 2, "late": [True] * 2}), None)
    served = answer(sources).drop("truth")
    for wrong in (served[:1], pl.concat([served, served])):
        with pytest.raises(TidemillError, match="the requests of the backtest: 2 rows have"):
            add_truth(wrong, list_labels(sources.rows, PROBLEM), 2)


def test_of_a_corrected_row_the_newest_version_is_replayed(tmp_path: Path) -> None:
    first = pl.DataFrame({"id": [1, 2], "at": [NOON] * 2, "x": [1, 2], "late": [True, True]})
    first.write_parquet(tmp_path / "a.parquet")
    first[:1].with_columns(late=pl.lit(value=False)).write_parquet(tmp_path / "b.parquet")
    files = FileSources(tmp_path, {"rows": Source(path="*.parquet", time="at", key=("id",))})
    sources = ReplaySources(tmp_path, files, "rows", NOON, Backtest())
    assert answer(sources).select("x", "truth").rows() == [(2, "true"), (1, "false")]


def remove_key(project: Project) -> Project:
    file = project.folder / "data" / "shop.csv"
    pl.read_csv(file, try_parse_dates=True).drop("order_id").write_csv(file)
    settings_file = project.folder / "tidemill.toml"
    text = settings_file.read_text()
    assert text.count('key = ["order_id"]\n') == 1
    settings_file.write_text(text.replace('key = ["order_id"]\n', ""))
    return Project(project.folder)


def test_a_backtest_is_the_same_with_and_without_a_key(tmp_path: Path) -> None:
    """Predictions, labels and metrics are equal, also during a canary, in a table whose rows share their times."""
    results: list[tuple[PolicyResult, pl.DataFrame]] = []
    for name in ("with", "without"):
        changes = {
            'cron = "0 0 * * *"': 'cron = "0 6 * * *"',
            "minimum = 200": "minimum = 60",
            'test = "14d"': 'test = "9d"\nparams = { num_leaves = 7, learning_rate = 0.05 }',
        }
        project = make_project(tmp_path / name / "shop", replace=changes)
        file = project.folder / "data" / "shop.csv"
        rows = pl.read_csv(file, try_parse_dates=True)
        rows.with_columns(pl.col("ordered").dt.truncate("1d")).write_csv(file)
        project = remove_key(project) if name == "without" else Project(project.folder)
        triggers = tuple(trigger for trigger in project.policy.triggers if trigger.on != "data")
        policy = replace(project.policy, triggers=triggers)
        period = choose_period(project, "", "2026-02-10", "2026-03-05")
        replayed = Replay(project, policy, "", period, tmp_path / f"replay {name}", lambda *_: None)
        replayed.run()
        results.append((summarize("loop", replayed, 0.0), replayed.read_predictions().drop("features")))
    (first, one), (second, other) = results
    assert one.equals(other)
    assert one["truth"].count() == first.labels > 500
    for part in ("predictions", "labels", "metrics", "weeks", "releases", "trainings", "promotions", "runs"):
        assert getattr(first, part) == getattr(second, part), part
