"""The table of column types: the Polars type of each, and the lossless conversions of JSON values and columns to it."""

import math
from collections.abc import Callable
from datetime import date, datetime, time
from typing import Any, NamedTuple

import polars as pl

from tidemill.core.schema import ColumnType
from tidemill.data.storable import storable_dtype, to_seconds
from tidemill.data.timestamps import TIMESTAMP, parse_dates, parse_times, parse_timestamp, to_utc

_LARGEST_EXACT = 2**53  # above it a float skips whole numbers
_MIDNIGHT = time()

CODE = r"^[+-]?0[0-9]|^\+[0-9]{7,}$"
"""Digits that a number would lose: a leading zero, or the plus of a telephone number."""

ConvertColumn = Callable[[pl.Expr], pl.Expr]


class Conversion(NamedTuple):
    """The conversion of a column to another type; a value that does not fit becomes null, which `total` rules out."""

    convert: ConvertColumn
    total: bool


UNCHANGED = Conversion(lambda values: values, total=True)


class TypeRule(NamedTuple):
    """A column type: its Polars `dtype` (None: the column keeps its own), and the values that convert to it.

    `read` converts a JSON value to a Python value; it raises TypeError, ValueError or OverflowError for a value that
    does not fit. `conversion` returns the conversion of a column of a Polars type, None if no value of that type
    fits. `cure` is the advice to a sender; `accepts` describes the accepted values.
    """

    dtype: pl.DataType | None
    read: Callable[[Any], Any]
    conversion: Callable[[pl.DataType], Conversion | None]
    cure: str
    accepts: str


def column_type(dtype: pl.DataType) -> ColumnType:
    """Return the type of a column in schemas and signatures; no model accepts `nested` as an input."""
    if dtype == pl.Null:
        return "empty"
    if dtype == pl.Boolean:
        return "boolean"
    if dtype.is_integer() or (isinstance(dtype, pl.Decimal) and not dtype.scale):
        return "integer"
    if dtype.is_numeric() or isinstance(dtype, pl.Duration):
        return "number"
    if dtype == pl.Date:
        return "date"
    if dtype.is_nested() or dtype == pl.Binary:
        return "nested"
    return "time" if isinstance(dtype, pl.Datetime) else "text"


def find_conversion(kind: ColumnType, values: pl.Series, *, parse_text: bool = False) -> Conversion | None:
    """Return the conversion of a column to the type `kind`; None if it is impossible.

    A column without any value converts to every type. With `parse_text`, text is parsed as numbers, as in the files of
    a source; a request has JSON numbers.
    """
    rule = RULES[kind]
    if values.dtype == rule.dtype or kind == "empty":
        return UNCHANGED
    if values.null_count() == len(values):
        return Conversion(lambda v: pl.when(v.is_null()).then(pl.lit(None, rule.dtype)), total=True)
    if parse_text and kind == "number" and values.dtype == pl.String:
        return Conversion(
            lambda text: pl.when(~text.str.contains(CODE)).then(text.cast(pl.Float64, strict=False)), total=False
        )
    return rule.conversion(values.dtype)


def _to_boolean(dtype: pl.DataType) -> Conversion | None:
    return UNCHANGED if dtype == pl.Boolean else None


def _to_integer(dtype: pl.DataType) -> Conversion | None:
    if dtype.is_integer():
        return Conversion(lambda values: values.cast(pl.Int64, strict=False), total=False)
    if dtype.is_float():
        return Conversion(_whole, total=False)
    if dtype.is_decimal():
        return Conversion(lambda values: _whole_decimal(values, dtype), total=False)
    return None


def _whole(values: pl.Expr) -> pl.Expr:
    """Convert floats that equal exactly one integer."""
    numbers = values.cast(pl.Float64)
    exact = (numbers == numbers.round(0)) & (numbers.abs() <= _LARGEST_EXACT)
    return pl.when(exact).then(numbers.cast(pl.Int64, strict=False))


def _whole_decimal(values: pl.Expr, dtype: pl.DataType) -> pl.Expr:
    whole = values.cast(pl.Int64, strict=False)
    return pl.when(whole.cast(dtype, strict=False) == values).then(whole)


def _to_number(dtype: pl.DataType) -> Conversion | None:
    """Convert numbers to the nearest float of 64 bits, and durations to seconds."""
    if isinstance(dtype, pl.Duration):
        return Conversion(lambda values: values.map_batches(to_seconds, return_dtype=pl.Float64), total=True)
    return Conversion(lambda values: values.cast(pl.Float64), total=True) if dtype.is_numeric() else None


def _to_text(dtype: pl.DataType) -> Conversion | None:
    if dtype == pl.String or isinstance(dtype, pl.Categorical | pl.Enum):
        return Conversion(lambda values: values.cast(pl.String), total=True)
    if dtype == pl.Time:
        return Conversion(lambda values: values.dt.to_string("%H:%M:%S%.f"), total=True)
    return None


def _to_time(dtype: pl.DataType) -> Conversion | None:
    if isinstance(dtype, pl.Date | pl.Datetime):
        return Conversion(lambda values: to_utc(values, dtype), total=True)
    return Conversion(parse_times, total=False) if dtype == pl.String else None


def _to_date(dtype: pl.DataType) -> Conversion | None:
    """Convert times at midnight in their own zone to dates: pandas keeps dates so."""
    if dtype == pl.Date:
        return UNCHANGED
    if isinstance(dtype, pl.Datetime):
        return Conversion(lambda v: pl.when(v.dt.time() == _MIDNIGHT).then(v.dt.date()), total=False)
    return Conversion(parse_dates, total=False) if dtype == pl.String else None


def _to_nested(dtype: pl.DataType) -> Conversion | None:
    if dtype == pl.Binary:
        return UNCHANGED
    return Conversion(lambda values: values.cast(storable_dtype(dtype)), total=True) if dtype.is_nested() else None


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise TypeError


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or int(value) != value:
        raise TypeError
    if not -(1 << 63) <= value < 1 << 63 or (isinstance(value, float) and abs(value) > _LARGEST_EXACT):
        raise OverflowError
    return int(value)


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError
    return float(value)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    raise TypeError


def _time(value: object) -> datetime:
    return parse_timestamp(_text(value))


def _date(value: object) -> date:
    text = _text(value)
    read = parse_timestamp(text, shift=False)
    if read.time() != _MIDNIGHT:
        raise ValueError(text)
    return read.date()


def _nothing(value: object) -> Any:
    raise TypeError(value)


def _nested(value: object) -> Any:
    if isinstance(value, list | dict):
        return value
    raise TypeError


RULES: dict[ColumnType, TypeRule] = {
    "boolean": TypeRule(
        pl.Boolean(), _boolean, _to_boolean, "send true or false", "Booleans only: 0 and 1 are numbers."
    ),
    "integer": TypeRule(
        pl.Int64(),
        _integer,
        _to_integer,
        "send a whole number, such as 7, within 64 bits",
        "Integers of any width that fit in 64 bits, decimals without a fraction, and floats without a fraction up to "
        "2^53. No fractions, booleans or text.",
    ),
    "number": TypeRule(
        pl.Float64(),
        _number,
        _to_number,
        "send a number, without quotes",
        "Numbers of any type, rounded to the nearest float of 64 bits, and durations, in seconds. In the files of a "
        "source also text that is a number; in a request no text. No booleans.",
    ),
    "text": TypeRule(
        pl.String(),
        _text,
        _to_text,
        "send text, in quotes",
        "Text, categories and enums; a time of day as ISO 8601 text. No numbers.",
    ),
    "time": TypeRule(
        TIMESTAMP,
        _time,
        _to_time,
        "write a time as 2026-03-01T12:30:00, or with its zone",
        "Times of any unit, cut to the microsecond; dates, as their midnight; ISO 8601 text. A time without a zone is "
        "UTC. No numbers.",
    ),
    "date": TypeRule(
        pl.Date(),
        _date,
        _to_date,
        "write a date as 2026-03-01",
        "Dates, ISO 8601 text, and times that are midnight in their own zone.",
    ),
    "nested": TypeRule(
        None,
        _nested,
        _to_nested,
        "send a list or an object",
        "Lists, records and bytes, as they are. No model accepts them as an input.",
    ),
    "empty": TypeRule(
        pl.Null(),
        _nothing,
        lambda _: UNCHANGED,
        "send null",
        "A column that has no values yet: any values, whose type becomes the type of the column.",
    ),
}
