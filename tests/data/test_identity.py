"""Every row has an id of its own, also without a key; versions of a row have one id, and the newest is current."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.core.columns import KNOWN_AT, ROW_ID, TIME
from tidemill.core.source import Source
from tidemill.data.frame import require_one_answer_each
from tidemill.data.identity import drop_corrected_rows, name_rows
from tidemill.data.source import FileSources
from tidemill.errors import TidemillError

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
values = st.none() | st.sampled_from(["", "a", "b"])
rows = st.lists(st.tuples(values, st.none() | st.integers(0, 2), st.sampled_from([0.5, 1.0])), max_size=12)
SCHEMA: list[tuple[str, Any]] = [("x", pl.String), ("n", pl.Int64), ("f", pl.Float64)]


@given(rows, st.randoms())
@settings(max_examples=80, deadline=None)
def test_rows_without_a_key_have_ids_that_do_not_depend_on_their_form(table: list[Any], chance: Any) -> None:
    frame = pl.DataFrame(table, schema=SCHEMA, orient="row")
    ids = name_rows(frame, (), "a.csv")
    assert ids.is_unique().all()
    assert ids.null_count() == 0
    order = chance.sample(range(len(table)), len(table))
    names = chance.sample(frame.columns, 3)
    other = frame.select(names).with_columns(pl.col("n").cast(pl.Float64), pl.lit(NOON).alias(TIME))
    assert name_rows(other, (), "a.csv").equals(ids)
    assert sorted(name_rows(frame[order], (), "a.csv")) == sorted(ids)
    assert not set(name_rows(frame, (), "b.csv")) & set(ids)


@given(rows, rows)
@settings(max_examples=60, deadline=None)
def test_a_replaced_file_keeps_the_ids_of_the_rows_that_stayed(before: list[Any], added: list[Any]) -> None:
    first = pl.DataFrame(before, schema=SCHEMA, orient="row")
    second = pl.DataFrame(before + added, schema=SCHEMA, orient="row")
    assert set(name_rows(first, (), "a.csv")) <= set(name_rows(second, (), "a.csv"))


def test_the_id_of_a_row_with_a_key_is_its_key() -> None:
    frame = pl.DataFrame({"k": [7.0, None, None], "x": ["a", "b", "b"]})
    first, second, third = name_rows(frame, ("k",), "a.csv")
    assert first == "7"
    assert third == f"{second}+2"


def history(folder: Path, *batches: dict[str, Any], **settings_: Any) -> pl.DataFrame:
    """Return the history of a source with one file for each batch, in the order of arrival."""
    for number, batch in enumerate(batches):
        file = folder / f"{number}.parquet"
        pl.DataFrame(batch).write_parquet(file)
    source = Source(path="*.parquet", time="at", **settings_)
    return FileSources(folder, {"s": source}).source_history("s")


def current(folder: Path, *batches: dict[str, Any], **settings_: Any) -> list[Any]:
    return sorted(drop_corrected_rows(history(folder, *batches, **settings_))["x"])


LATER = NOON + timedelta(hours=1)


def test_without_a_key_equal_rows_are_two_rows(tmp_path: Path) -> None:
    batch = {"k": [1, 1], "at": [NOON, NOON], "x": ["a", "a"]}
    assert current(tmp_path, batch, batch) == ["a"] * 4


def test_a_later_row_of_a_key_is_current_also_with_another_time(tmp_path: Path) -> None:
    first = {"k": [1, 2], "at": [NOON, NOON], "x": ["a", "b"]}
    assert current(tmp_path, first, {"k": [1.0], "at": [LATER], "x": ["c"]}, key=("k",)) == ["b", "c"]


def test_a_key_with_a_history_names_a_row_together_with_its_time(tmp_path: Path) -> None:
    first = {"k": [1, 1], "at": [NOON, LATER], "x": ["a", "b"]}
    assert current(tmp_path, first, {"k": [1], "at": [LATER], "x": ["c"]}, key=("k",)) == ["a", "c"]


def test_rows_with_a_null_in_the_key_are_rows_of_their_own(tmp_path: Path) -> None:
    batch = {"k": [None, float("nan"), 1.0], "at": [NOON] * 3, "x": ["a", "b", "c"]}
    assert current(tmp_path, batch, batch, key=("k",)) == ["a", "a", "b", "b", "c"]


def test_the_version_that_became_known_last_is_current_whenever_it_arrived(tmp_path: Path) -> None:
    newer = {"k": [1], "at": [NOON], "known": [LATER], "x": ["new"]}
    older = {"k": [1], "at": [NOON], "known": [NOON], "x": ["old"]}
    found = history(tmp_path, newer, older, key=("k",), known_at="known")
    assert found.sort(KNOWN_AT)["x"].to_list() == found["x"].to_list() == ["old", "new"]
    assert drop_corrected_rows(found)["x"].to_list() == ["new"]


def test_an_answer_too_many_or_too_few_is_an_error() -> None:
    require_one_answer_each(3, 3, "requests")
    with pytest.raises(TidemillError, match="requests: 3 rows have 9 answers") as refused:
        require_one_answer_each(3, 9, "requests")
    assert refused.value.cure


def test_ids_are_in_the_history(tmp_path: Path) -> None:
    found = history(tmp_path, {"a": ["x|y"], "b": [2.0], "at": [NOON], "x": [1]}, key=("a", "b"))
    assert found[ROW_ID].to_list() == [r"x\|y|2"]


def name_batches(source: Source, folder: Path) -> list[list[str]]:
    sources = FileSources(folder, {"s": source})
    until = datetime.now(UTC) + timedelta(days=1)
    return [name_rows(sources.read(batch), (), batch.path).to_list() for batch in sources.batches("s", until)]


def test_equal_rows_of_a_database_and_of_a_delta_table_are_rows_of_their_own(tmp_path: Path) -> None:
    rows = pl.DataFrame({"x": ["a", "a", "b"]})
    with sqlite3.connect(tmp_path / "rows.db") as database:
        database.execute("CREATE TABLE numbered (n INTEGER, x TEXT)")
        values = [(n, x) for n, x in zip((1, 1, 20_000), rows["x"], strict=True)]
        database.executemany("INSERT INTO numbered VALUES (?, ?)", values)
    database.close()
    for _ in range(2):
        rows.write_delta(str(tmp_path / "lake"), mode="append")
    blocks = Source(path="sqlite:///rows.db", table="numbered", growing="n")
    for source, shape in ((blocks, [2, 1]), (Source(path="lake"), [3, 3])):
        batches = name_batches(source, tmp_path)
        assert [len(ids) for ids in batches] == shape
        assert len({name for ids in batches for name in ids}) == sum(shape)
        assert name_batches(source, tmp_path) == batches
