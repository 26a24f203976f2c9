"""The rows of a training: of a file that arrived again, only the rows of its last batch."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest

from tidemill.compose.backends import open_workspace
from tidemill.core.columns import ARRIVED, BATCH, KNOWN_AT, PATH, ROW_ID, TIME
from tidemill.core.policy import Problem
from tidemill.journal.tables import DeltaTables
from tidemill.recipes.rows import Snapshot, add_feedback, read_labelled

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


def test_a_file_is_the_same_after_the_project_was_moved(tmp_path: Path) -> None:
    tables = DeltaTables(str(tmp_path / "tables"))
    tables.append("rows", "old", batch("old", "/home/ada/shop/data/rows.csv", 1))
    tables.append("rows", "other", batch("other", "/home/ada/shop/data/others.csv", 2))
    version = tables.append("rows", "new", batch("new", "data/rows.csv", 3))
    labelled = read_labelled(
        Snapshot(table="rows", version=version, known_until=NOON),
        Problem(decision="", source="rows", label="late"),
        tables,
    )
    assert sorted(labelled["x"]) == ["new", "other"]


def batch(name: str, path: str, hour: int | None) -> pl.DataFrame:
    """One row of a batch; `hour` is the hour of its arrival, None for a table without arrival times."""
    times = {TIME: NOON, KNOWN_AT: NOON} | ({} if hour is None else {ARRIVED: NOON.replace(hour=hour)})
    row = {"x": name, "late": True, "_tidemill_batch": name, "_path": path, **times}
    return pl.DataFrame([row]).with_columns(pl.col(times).cast(pl.Datetime("us", "UTC")))


@pytest.mark.parametrize("hours", [(1, 2, 3), (None, 2, 3), (None, None, 3), (None, None, None)])
def test_a_file_that_arrived_again_replaces_its_earlier_rows(tmp_path: Path, hours: tuple[int | None, ...]) -> None:
    tables = DeltaTables(str(tmp_path / "tables"))
    for name, hour in zip(("oldest", "old", "new"), hours, strict=True):
        tables.append("rows", name, batch(name, "rows.csv", hour))
    version = tables.append("rows", "other", batch("other", "other.csv", hours[-1]))
    labelled = read_labelled(
        Snapshot(table="rows", version=version, known_until=NOON),
        Problem(decision="", source="rows", label="late"),
        tables,
    )
    assert sorted(labelled["x"]) == ["new", "other"]
    assert labelled.columns == ["x", "late", TIME, KNOWN_AT]


@pytest.mark.parametrize(
    ("key", "expected"),
    [(("x",), [("a", 2), ("b", 1), ("c", 2), (None, 1), (None, 2)]), ((), [("a", 1), ("a", 2), ("b", 1), ("c", 2)])],
)
def test_of_a_key_in_several_files_only_the_newest_row_is_current(
    tmp_path: Path, key: tuple[str, ...], expected: list[tuple[str | None, int]]
) -> None:
    tables = DeltaTables(str(tmp_path / "tables"))
    for hour, names in ((1, ["a", "b", None, None]), (2, ["a", "c", None, None])):
        rows = pl.concat([batch(str(hour), f"{hour}.csv", hour).with_columns(x=pl.lit(n, pl.String)) for n in names])
        version = tables.append("rows", str(hour), rows.with_columns(y=pl.lit(hour)))
    labelled = read_labelled(
        Snapshot(table="rows", version=version, known_until=NOON, key=key),
        Problem(decision="", source="rows", label="late"),
        tables,
    )
    assert set(expected) <= set(labelled.select("x", "y").rows())
    assert labelled.height == (7 if key else 8)


def test_a_key_that_is_not_unique_within_a_batch_drops_no_rows(tmp_path: Path) -> None:
    tables = DeltaTables(str(tmp_path / "tables"))
    row = batch("a", "a.csv", 1)
    tables.append("rows", "a", pl.concat([row, row]))
    version = tables.append("rows", "b", batch("b", "b.csv", 2).with_columns(x=pl.lit("a")))
    labelled = read_labelled(
        Snapshot(table="rows", version=version, known_until=NOON, key=("x",)),
        Problem(decision="", source="rows", label="late"),
        tables,
    )
    assert labelled.height == 3


def test_a_rewritten_location_replaces_its_earlier_rows(tmp_path: Path) -> None:
    tables = DeltaTables(str(tmp_path / "tables"))
    hours = iter(range(24))

    def read_current(*paths: str) -> list[str]:
        for path in paths:
            version = tables.append("rows", path, batch(path, path, next(hours)))
        labelled = read_labelled(
            Snapshot(table="rows", version=version, known_until=NOON),
            Problem(decision="", source="rows", label="late"),
            tables,
        )
        return sorted(labelled["x"])

    paths = ("/home/ada/lake#0", "/home/ada/lake#1", "lake#3+0", "other#1", "lake#3+1", "lake#3+4", "a#1.csv")
    assert read_current(*paths) == ["a#1.csv", "lake#3+0", "lake#3+1", "lake#3+4", "other#1"]
    assert read_current("lake#7+2") == ["a#1.csv", "lake#3+0", "lake#3+1", "lake#3+4", "other#1"], "7 is not in"
    assert read_current("lake#7+0", "lake#5+0") == ["a#1.csv", "lake#7+0", "lake#7+2", "other#1"]


def test_a_whole_table_and_its_parts_replace_each_other(tmp_path: Path) -> None:
    tables = DeltaTables(str(tmp_path / "tables"))

    def read_current(hour: int, *paths: str) -> list[str]:
        for path in paths:
            version = tables.append("rows", f"{path} {hour}", batch(f"{path} {hour}", path, hour))
        labelled = read_labelled(
            Snapshot(table="rows", version=version, known_until=NOON),
            Problem(decision="", source="rows", label="late"),
            tables,
        )
        return sorted(labelled["x"])

    assert read_current(1, "orders#all") == ["orders#all 1"]
    assert read_current(2, "orders#0-10000", "orders#10000-20000") == ["orders#0-10000 2", "orders#10000-20000 2"]
    assert read_current(3, "orders#10000-20000") == ["orders#0-10000 2", "orders#10000-20000 3"]
    assert read_current(4, "orders#all", "others.csv") == ["orders#all 4", "others.csv 4"]


@pytest.mark.parametrize(
    ("label", "task", "truth", "expected"),
    [
        (pl.Series([False, True]), "classification", ["1", "0", "True", "late"], [True, False, True]),
        (pl.Series([0, 1]), "classification", ["1.0", "0", "true", "2"], [1, 0, 1]),
        (pl.Series(["0", "1"]), "classification", [1.0, 0.0, 3.0], ["1", "0"]),
        (pl.Series(["yes", "no"]), "classification", ["no", " yes", "Yes"], ["no", "yes"]),
        (pl.Series([3, 4]), "regression", ["5", "x", "nan", "6.0"], [5, 6]),
        (pl.Series([3, 4]), "regression", [5.5, 6.0], [5.5, 6.0]),
    ],
)
def test_feedback_learns_what_a_label_means_and_excludes_one_without_a_meaning(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    label: pl.Series,
    task: Literal["classification", "regression"],
    truth: list[str | float],
    expected: list[Any],
) -> None:
    journal = open_workspace(tmp_path).journal
    now = datetime(2026, 3, 1, tzinfo=UTC)
    served = pl.DataFrame({"id": [str(index) for index in range(len(truth))]}).with_columns(
        pl.lit("shop/1").alias("release"),
        pl.lit("champion").alias("role"),
        pl.lit("").alias("key"),
        pl.lit(now).cast(pl.Datetime("us", "UTC")).alias("time"),
        pl.lit(now).cast(pl.Datetime("us", "UTC")).alias("known_at"),
        pl.struct(x=pl.lit(1.0)).alias("features"),
    )
    journal.append("predictions/shop", served)
    journal.append("labels/shop", served.select("id", "key", "time", "known_at", pl.Series("value", truth)))
    rows = pl.DataFrame({"x": [0.0, 0.0], "y": label}).with_columns(
        pl.lit(now).cast(pl.Datetime("us", "UTC")).alias(name) for name in (TIME, KNOWN_AT)
    )
    found = add_feedback(
        rows,
        Snapshot(table="rows", version=0, known_until=now, feedback_until=now),
        Problem(decision="", source="rows", label="y", task=task),
        "shop",
        journal,
    )
    assert found["y"].to_list()[2:] == expected
    excluded = len(truth) - len(expected)
    assert not excluded or f"{excluded} of {len(truth)} labels of shop" in caplog.text


def test_the_version_of_a_row_that_became_known_last_is_current_whenever_it_was_accepted(tmp_path: Path) -> None:
    tables = DeltaTables(str(tmp_path / "tables"))
    newer = batch("a", "a.csv", 1).with_columns(y=pl.lit("new"), k=pl.lit(7))
    older = newer.with_columns(pl.col(KNOWN_AT) - pl.duration(hours=1), y=pl.lit("old"))
    later = newer.with_columns(pl.col(KNOWN_AT) + pl.duration(hours=1), y=pl.lit("too late"))
    for name, rows, hour in (("new", newer, 1), ("old", older, 2), ("late", later, 3)):
        arrived = pl.lit(NOON.replace(hour=hour)).cast(pl.Datetime("us", "UTC")).alias(ARRIVED)
        origin = (pl.lit(name).alias(BATCH), pl.lit(f"{name}.csv").alias(PATH))
        version = tables.append("rows", name, rows.with_columns(arrived, *origin))
    problem = Problem(decision="", source="rows", label="late")
    snapshot = Snapshot(table="rows", version=version, known_until=NOON, key=("k",), by_known_at=True)
    assert read_labelled(snapshot, problem, tables)["y"].to_list() == ["new"]


@pytest.mark.parametrize("key", [(), ("k",)])
def test_a_served_row_that_is_a_source_row_is_learned_once_with_and_without_a_key(
    tmp_path: Path, key: tuple[str, ...]
) -> None:
    """In a backtest every row has an id; the third served row came with no row of the source."""
    journal, utc = open_workspace(tmp_path).journal, pl.Datetime("us", "UTC")
    served = pl.DataFrame({"id": ["a", "b", "c"], "key": ["0", "1", "2"]}).with_columns(
        pl.lit("shop/1").alias("release"),
        pl.lit("champion").alias("role"),
        pl.lit(NOON).cast(utc).alias("time"),
        pl.lit(NOON).cast(utc).alias("known_at"),
        pl.struct(x=pl.lit(1.0)).alias("features"),
    )
    journal.append("predictions/shop", served)
    journal.append(
        "labels/shop", served.select(pl.lit("").alias("id"), "key", "time", "known_at", value=pl.lit("true"))
    )
    rows = pl.DataFrame({ROW_ID: ["0", "1"], "k": [None, 8], "x": [1.0, 1.0], "y": [True, True]}).with_columns(
        pl.lit(NOON).cast(utc).alias(name) for name in (TIME, KNOWN_AT)
    )
    snapshot = Snapshot(table="rows", version=0, known_until=NOON, feedback_until=NOON, key=key)
    found = add_feedback(rows, snapshot, Problem(decision="", source="rows", label="y"), "shop", journal)
    assert found.height == 3
