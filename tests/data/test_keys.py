"""Keys and classes are the same text, whatever type they were read as."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.data.keys import normalize_row_keys, split_key_text, to_class_names, to_key_text, to_row_keys


def test_labels_are_named_alike_whatever_they_were_read_as() -> None:
    assert to_class_names(pl.Series([True, False, None])).to_list() == ["true", "false", None]
    assert to_class_names(pl.Series([1, 0])).to_list() == to_class_names(pl.Series([1.0, 0.0])).to_list() == ["1", "0"]
    assert to_class_names(pl.Series([0.5, 1.0])).to_list() == ["0.5", "1.0"]
    assert to_class_names(pl.Series(["late", None])).to_list() == ["late", None]


def text_of(value: Any, dtype: Any = None) -> str | None:
    texts: list[str | None] = to_key_text(pl.Series("k", [value], dtype=dtype)).to_list()
    return texts[0]


MIDNIGHT, MORNING = datetime(2024, 1, 1), datetime(2024, 1, 1, 5, 0, 0, 120_000)
TOKYO = pl.Datetime("us", "Asia/Tokyo")
EQUAL: list[tuple[str, list[tuple[Any, Any]]]] = [
    ("7", [(7, pl.Int8), (7, pl.UInt64), (7, pl.Int128), (7.0, pl.Float32), (7.0, pl.Float64), ("7", pl.String)]),
    ("7", [(Decimal("7.00"), pl.Decimal(10, 2)), (Decimal(7), pl.Decimal(38, 0)), ("7", pl.Categorical)]),
    ("700", [(700, None), (Decimal("700.00"), pl.Decimal(10, 2)), (Decimal(700), pl.Decimal(10, 0)), (700.0, None)]),
    ("-7.25", [(-7.25, None), (Decimal("-7.250"), pl.Decimal(10, 3)), ("-7.25", None)]),
    ("0", [(0, None), (-0.0, None), (0.0, pl.Float32), (Decimal("-0.00"), pl.Decimal(10, 2))]),
    ("0.0000001", [(1e-7, None), (Decimal("1e-7"), pl.Decimal(20, 9))]),
    ("100000000000000000000", [(1e20, None), (10**20, pl.Int128), (Decimal(10**20), pl.Decimal(38, 2))]),
    ("9007199254740993", [(2**53 + 1, pl.Int64), (2**53 + 1, pl.UInt64), ("9007199254740993", None)]),
    ("2024-01-01", [(date(2024, 1, 1), None), (MIDNIGHT, None), (MIDNIGHT, pl.Datetime("ns")), ("2024-01-01", None)]),
    ("2024-01-01", [(MIDNIGHT.replace(tzinfo=UTC), pl.Datetime("ms", "UTC")), ("2024-01-01T00:00:00Z", None)]),
    ("2024-01-01T05:00:00.12", [(MORNING, pl.Datetime("ms")), (MORNING, pl.Datetime("ns"))]),
    ("2024-01-01T05:00:00.12", [("2024-01-01 05:00:00.120", None), (MORNING.replace(tzinfo=UTC), TOKYO)]),
    ("2024-01-01T05:00:00.12", [("2024-01-01T14:00:00.12+09:00", None)]),
    ("true", [(True, None), ("true", None)]),
    ("a", [("a", pl.String), ("a", pl.Categorical), ("a", pl.Enum(["a", "b"])), (b"a", pl.Binary)]),
    ("01:02:03", [(time(1, 2, 3), None), ("01:02:03", None)]),
    ("P1D", [(timedelta(days=1), pl.Duration("us")), (timedelta(days=1), pl.Duration("ns"))]),
]


@pytest.mark.parametrize(("text", "values"), EQUAL)
def test_equal_values_are_one_key(text: str, values: list[tuple[Any, Any]]) -> None:
    assert [text_of(value, dtype) for value, dtype in values] == [text] * len(values)


@pytest.mark.parametrize("dtype", [pl.Int64, pl.Float64, pl.String, pl.Date, pl.Boolean, pl.Decimal(10, 2), pl.Null])
def test_a_null_is_no_key(dtype: Any) -> None:
    assert text_of(None, dtype) is None


def test_nan_is_no_key() -> None:
    assert to_key_text(pl.Series([float("nan"), 1.0])).to_list() == [None, "1"]
    assert to_row_keys(pl.DataFrame({"a": [1.0, float("nan")], "b": ["x", "y"]}), ["a", "b"]).to_list() == ["1|x", None]


def test_text_is_a_number_only_as_it_is_written() -> None:
    """Codes and versions stay different: 007 and 7, 1.10 and 1.1."""
    texts = ["7", "7.0", "07", "+7", " 7", "1e3", "1.10", "1.1", "True", "2024-1-1", "2024-13-01T00:00:00", ""]
    assert to_key_text(pl.Series(texts)).to_list() == texts


def test_bytes_that_are_no_text_are_a_key() -> None:
    assert text_of(b"\xff\x00", pl.Binary) == "0xff00"


@pytest.mark.parametrize("value", [[1, None], {"a": 1}])
def test_equal_lists_and_records_are_one_key(value: Any) -> None:
    first, second, third = to_key_text(pl.Series("k", [value, value, None])).to_list()
    assert first == second is not None
    assert third is None


ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=ZONES) | st.dates(
    date(1900, 1, 1), date(2200, 1, 1)
).map(lambda day: datetime(day.year, day.month, day.day, tzinfo=UTC))


@given(st.lists(moments, min_size=1, max_size=8))
@settings(max_examples=40, deadline=None)
def test_a_time_is_one_key_in_any_unit_zone_and_writing(times: list[datetime]) -> None:
    utc = pl.Series(times, dtype=pl.Datetime("us", "UTC"))
    expected = to_key_text(utc)
    naive = utc.dt.replace_time_zone(None)
    written = pl.Series([moment.isoformat() for moment in times])
    for other in (naive, naive.cast(pl.Datetime("ns")), utc.dt.convert_time_zone("Asia/Kolkata"), written):
        assert to_key_text(other).equals(expected)
    assert expected.n_unique() == len({moment.astimezone(UTC) for moment in times})
    midnights = naive.dt.truncate("1d")
    assert to_key_text(midnights).equals(to_key_text(midnights.cast(pl.Date)))


whole = st.integers(-(2**53), 2**53)
numbers = whole | st.floats(allow_nan=False, allow_infinity=False) | st.decimals(-(10**9), 10**9, places=4)


@given(st.lists(numbers, min_size=2, max_size=8))
@settings(max_examples=150, deadline=None)
def test_numbers_are_one_key_exactly_if_they_are_equal(values: list[Any]) -> None:
    types = {int: pl.Int64, float: pl.Float64, Decimal: pl.Decimal(38, 4)}
    texts = [text_of(value, types[type(value)]) for value in values]
    for value, text in zip(values, texts, strict=True):
        for other, its_text in zip(values, texts, strict=True):
            # A float is compared as it is written: 0.1 is the decimal 0.1.
            exact = [Decimal(repr(one)) if isinstance(one, float) else Decimal(one) for one in (value, other)]
            assert (text == its_text) == (exact[0] == exact[1]), (value, other)


@given(st.lists(st.lists(st.text("ab|\\", max_size=4), min_size=2, max_size=2), min_size=1, max_size=6))
@settings(max_examples=150, deadline=None)
def test_a_key_of_several_columns_is_joined_without_confusion(rows: list[list[str]]) -> None:
    keys = to_row_keys(pl.DataFrame(rows, schema=["a", "b"], orient="row"), ["a", "b"]).to_list()
    assert [split_key_text(key) for key in keys] == rows


def test_a_time_in_a_key_that_came_as_text_is_that_time() -> None:
    sent = pl.Series(["UA|2013-03-01T10:30:00.000Z", "UA|12", "2013-03-01T00:00", r"a\|b|2013-03-01 10:30", ""])
    expected = ["UA|2013-03-01T10:30:00", "UA|12", "2013-03-01", r"a\|b|2013-03-01T10:30:00", ""]
    assert normalize_row_keys(sent).to_list() == expected
