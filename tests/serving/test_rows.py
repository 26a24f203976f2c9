"""Rows become what the signature names, or an error that names the row and the column."""

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from tidemill.core.model import Input
from tidemill.core.schema import ColumnType
from tidemill.data.moments import MOMENT
from tidemill.errors import DataError
from tidemill.serving.rows import conform, frame_of, keys_of, moments_of


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
    inputs = [Input(name="a", type=kind)]
    frame = frame_of([{"a": value} for value in values], inputs, ())
    assert frame["a"].to_list() == expected
    assert conform(frame, inputs).equals(frame)


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
    with pytest.raises(DataError, match=rf"row 1: column 'a' should hold {kind}"):
        frame_of([{"a": None}, {"a": value}, {"a": None}], [Input(name="a", type=kind)], ())


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
    input_ = Input(name="a", type=kind)
    first = conform(given.to_frame(), [input_])
    assert conform(first, [input_]).equals(first)
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
    with pytest.raises(DataError, match=rf"row 1: column 'a' should hold {kind}"):
        conform(given.to_frame(), [Input(name="a", type=kind)])


def test_a_time_that_cannot_be_read_says_how_one_is_written() -> None:
    with pytest.raises(DataError, match=r"'20\.11\.2026' — write a time as 2026-"):
        frame_of([{"a": "20.11.2026"}], [Input(name="a", type="time")], ())


def test_what_may_not_be_missing_is_named() -> None:
    needed = [Input(name="a", type="number", nullable=False)]
    with pytest.raises(DataError, match="no column 'a'"):
        conform(pl.DataFrame({"b": [1]}), needed)
    with pytest.raises(DataError, match="row 1: column 'a' is missing"):
        conform(pl.DataFrame({"a": [1.0, None]}), needed)


def test_other_columns_are_ignored_and_absent_ones_are_null() -> None:
    frame = frame_of([{"x": [1, {}]}, {}], [Input(name="a", type="number")], ("b",))
    assert frame.height == 2
    assert conform(frame, [Input(name="a", type="number")])["a"].to_list() == [None, None]


def test_keys_are_text_joined_and_empty_where_a_part_is_missing() -> None:
    frame = frame_of([{"k": "UA", "n": 12}, {"k": None, "n": 3}], (), ("k", "n"))
    assert keys_of(frame, ("k", "n")) == ["UA|12", ""]
    assert keys_of(frame, ("k", "absent")) == ["", ""]
    with pytest.raises(DataError, match="row 1: column 'k'"):
        frame_of([{"k": "a"}, {"k": 1}], (), ("k",))


def test_an_absent_time_is_the_moment_of_asking() -> None:
    now = pl.Series([datetime(2020, 1, 1, tzinfo=UTC)] * 2, dtype=MOMENT)
    given = datetime(2013, 1, 1, tzinfo=UTC)
    frame = frame_of([{"t": "2013-01-01T00:00:00Z"}, {}], (), ("t",))
    assert moments_of(frame, "t", now).to_list() == [given, now[1]]
    assert moments_of(frame, "", now).to_list() == now.to_list()
