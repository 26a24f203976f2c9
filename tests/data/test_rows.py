"""Rows become what the signature names, or an error that names the row and the column."""

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from tidemill.core.model import Input
from tidemill.core.schema import ColumnType
from tidemill.data.rows import RowReader
from tidemill.errors import DataError


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("number", [1, 2.5, None], [1.0, 2.5, None]),
        ("integer", [1, 3.0, None], [1, 3, None]),
        ("boolean", [True, None], [True, None]),
        ("text", ["a", None], ["a", None]),
        ("date", ["2013-01-31"], [date(2013, 1, 31)]),
        ("time", ["2013-01-31T12:00:00Z", "2013-01-31 12:00"], [datetime(2013, 1, 31, 12, tzinfo=UTC)] * 2),
        ("time", ["2013-01-31T12:00:00+02:00"], [datetime(2013, 1, 31, 10, tzinfo=UTC)]),
    ],
)
def test_json_values_take_their_type(kind: ColumnType, values: list[Any], expected: list[Any]) -> None:
    reader = RowReader([Input(name="a", type=kind)])
    frame = reader.read_json([{"a": value} for value in values])
    assert frame["a"].to_list() == expected
    assert reader.read_frame(frame).equals(frame)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("number", "1"),
        ("number", True),
        ("number", [1]),
        ("number", 10**400),
        ("integer", 1.5),
        ("integer", 2**63),
        ("integer", False),
        ("boolean", 1),
        ("text", 1),
        ("text", {"a": 1}),
        ("time", "soon"),
        ("time", 1362000000),
        ("date", "2013-02-30"),
    ],
)
def test_a_json_value_of_another_type_is_named(kind: ColumnType, value: Any) -> None:
    with pytest.raises(DataError, match=rf"row 1: column 'a' should be of type {kind}"):
        RowReader([Input(name="a", type=kind)]).read_json([{"a": None}, {"a": value}, {"a": None}])


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("number", pl.Series("a", [1, 2], dtype=pl.Int32)),
        ("integer", pl.Series("a", [1.0, 2.0])),
        ("text", pl.Series("a", ["x", "y"], dtype=pl.Categorical)),
        ("time", pl.Series("a", [datetime(2013, 1, 1), None])),
        ("time", pl.Series("a", [date(2013, 1, 1), None])),
        ("number", pl.Series("a", [None, None], dtype=pl.String)),
    ],
)
def test_frames_are_cast_without_loss(kind: ColumnType, given: pl.Series) -> None:
    reader = RowReader([Input(name="a", type=kind)])
    first = reader.read_frame(given.to_frame())
    assert reader.read_frame(first).equals(first)
    assert first["a"].null_count() == given.null_count()


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("number", pl.Series("a", [None, "x"])),
        ("integer", pl.Series("a", [1.0, 1.5])),
        ("text", pl.Series("a", [None, 3])),
        ("boolean", pl.Series("a", [None, 1])),
        ("time", pl.Series("a", ["2013-01-01", "never"])),
    ],
)
def test_a_frame_that_does_not_fit_names_row_and_column(kind: ColumnType, given: pl.Series) -> None:
    with pytest.raises(DataError, match=rf"row 1: column 'a' should be of type {kind}"):
        RowReader([Input(name="a", type=kind)]).read_frame(given.to_frame())


def test_a_time_that_cannot_be_read_prints_how_one_is_written() -> None:
    with pytest.raises(DataError, match=r"'20\.11\.2026' — write a time as 2026-"):
        RowReader([Input(name="a", type="time")]).read_json([{"a": "20.11.2026"}])


def test_what_may_not_be_missing_is_named() -> None:
    needed = RowReader([Input(name="a", type="number", nullable=False)])
    with pytest.raises(DataError, match="no column 'a'"):
        needed.read_frame(pl.DataFrame({"b": [1]}))
    with pytest.raises(DataError, match="row 1: column 'a' is missing"):
        needed.read_frame(pl.DataFrame({"a": [1.0, None]}))


def test_other_columns_are_ignored_and_absent_ones_are_null() -> None:
    reader = RowReader([Input(name="a", type="number")])
    frame = reader.read_json([{"x": [1, {}]}, {}], ("b",))
    assert frame.height == 2
    assert reader.read_frame(frame)["a"].to_list() == [None, None]


def test_rows_of_json_may_lack_columns() -> None:
    reader = RowReader([Input(name="a", type="number"), Input(name="b", type="text")])
    frame = reader.read_json([{"a": 1}, {"b": "x", "a": 2.5}])
    assert frame.to_dicts() == [{"a": 1.0, "b": None}, {"a": 2.5, "b": "x"}]
