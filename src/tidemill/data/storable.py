"""Converts the columns of any table to types that every store and model can use, without loss, or refuses them by name.

A column that stays in its type is a boolean, a signed integer of at most 64 bits, a float of 32 or 64 bits, text, a
date, a time, or bytes.
"""

from datetime import date
from typing import Any, NamedTuple

import polars as pl

from tidemill.errors import Unreadable

_BITS_64 = (-(2**63), 2**63 - 1)
_AS_TEXT = (
    'write the column as text: pl.col("NAME").cast(pl.String) in Polars, frame["NAME"].astype(str) in pandas, '
    'CAST("NAME" AS VARCHAR) in SQL'
)
_LARGEST_EXACT = 2**53  # above it a float skips whole numbers
_DAYS = tuple((day - date(1970, 1, 1)).days for day in (date.min, date.max))
_PER_DAY = {"ms": 86_400_000, "us": 86_400_000_000, "ns": 86_400_000_000_000}
_UNCHANGED = (pl.Boolean, pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.Float32, pl.Float64, pl.String, pl.Binary, pl.Null)


class Refusal(NamedTuple):
    """The reason why a column can be stored in no type without loss, and the cure."""

    problem: str
    cure: str


def to_storable(frame: pl.DataFrame, about: str) -> pl.DataFrame:
    """Return the frame with types that every store keeps; `about` names the table.

    Unsigned integers, integers of 128 bits and decimals without fraction digits become integers of 64 bits. Other
    decimals become the nearest floats, or integers if they are whole numbers beyond the precision of a float. Durations
    become seconds; categories and enums become text, and times of day text such as 12:30:00. Arrays become lists. A
    column of an extension type has the type of its storage.

    Raises
    ------
    Unreadable
        if a column cannot be converted without loss; the error names the column, its type and the cure.
    """
    changed = []
    for values in frame:
        if isinstance(values.dtype, _UNCHANGED):
            continue
        if isinstance(values.dtype, pl.Struct) and not values.dtype.fields:  # such as {} in JSON: it has no values
            changed.append(pl.Series(values.name, [None] * len(values), dtype=pl.Null))
            continue
        plain = _strip_extension(values)
        if refusal := find_refusal(plain):
            cure = refusal.cure.replace("NAME", values.name)
            raise Unreadable(f"column {values.name!r} of {about} {refusal.problem}", cure)
        stored = _convert(plain)
        if stored is not values:
            changed.append(stored)
    return frame.with_columns(changed) if changed else frame


def find_refusal(values: pl.Series) -> Refusal | None:
    """Return why a column can be stored in no type without loss; None if it can."""
    dtype = values.dtype
    if dtype == pl.Object:
        example = next((type(value).__name__ for value in values.to_list() if value is not None), "None")
        return Refusal(f"has the type Object: it contains Python objects, such as {example}", _AS_TEXT)
    if dtype.is_integer() or (isinstance(dtype, pl.Decimal) and not dtype.scale):
        ends = [end for end in (values.min(), values.max()) if end is not None]
        if beyond := [int(end) for end in ends if not _BITS_64[0] <= int(end) <= _BITS_64[1]]:  # type: ignore[arg-type]
            return Refusal(f"has the type {dtype} and numbers that do not fit in Int64, such as {beyond[0]}", _AS_TEXT)
    if dtype == pl.Date or (isinstance(dtype, pl.Datetime) and dtype.time_unit != "ns"):  # which end before 2263
        per_day = _PER_DAY[dtype.time_unit] if isinstance(dtype, pl.Datetime) else 1
        low, high = _DAYS[0] * per_day, (_DAYS[1] + 1) * per_day - 1
        physical = values.cast(pl.Int32 if dtype == pl.Date else pl.Int64)
        ends = [end for end in (physical.min(), physical.max()) if end is not None]
        if any(not low <= end <= high for end in ends):  # type: ignore[operator]
            count = int(physical.is_between(low, high).not_().fill_null(value=False).sum())
            return Refusal(
                f"has the type {dtype} and {count} times outside the years 1 to 9999",
                "write null in place of these times",
            )
    if dtype.is_nested():
        try:
            _require_fields(dtype)
            values.cast(storable_dtype(dtype))
        except pl.exceptions.PolarsError as error:
            reason = str(error).partition("\n")[0]
            return Refusal(
                f"has the type {dtype}, which cannot be stored: {reason}",
                "remove the column, or write each member of its values as a column",
            )
    return None


def _require_fields(dtype: Any) -> None:
    """Raise if lists have records without fields as members."""
    if isinstance(dtype, pl.Struct) and not dtype.fields:
        raise pl.exceptions.SchemaError("its records have no fields")
    for inner in [getattr(dtype, "inner", None), *(field.dtype for field in getattr(dtype, "fields", ()))]:
        if inner is not None:
            _require_fields(inner)


def _strip_extension(values: pl.Series) -> pl.Series:
    """Return a column of an extension type in the type of its storage; numbers of the type bool8 become booleans."""
    if not isinstance(values.dtype, pl.datatypes.BaseExtension):
        return values
    stored: pl.Series = values.ext.storage()
    return stored != 0 if values.dtype.ext_name() == "arrow.bool8" else stored


def _convert(values: pl.Series) -> pl.Series:
    dtype = values.dtype
    if dtype.is_integer() or (isinstance(dtype, pl.Decimal) and not dtype.scale):
        return values.cast(pl.Int64)
    if dtype.is_decimal():
        return _convert_decimals(values)
    if dtype.is_float():
        return values.cast(pl.Float64)
    if isinstance(dtype, pl.Duration):
        return to_seconds(values)
    if isinstance(dtype, pl.Categorical | pl.Enum):
        return values.cast(pl.String)
    if dtype == pl.Time:
        return values.dt.to_string("%H:%M:%S%.f")
    return values.cast(storable_dtype(dtype)) if dtype.is_nested() else values


def _convert_decimals(values: pl.Series) -> pl.Series:
    """Return decimals as the nearest floats, or as integers if they are whole numbers that floats may not equal."""
    floats = values.cast(pl.Float64)
    if not (floats.abs() > _LARGEST_EXACT).any():
        return floats
    integers = values.cast(pl.Int64, strict=False)
    is_whole = bool((integers.cast(values.dtype, strict=False) == values).all())
    return integers if is_whole and integers.null_count() == values.null_count() else floats


def to_seconds(values: pl.Series) -> pl.Series:
    """Return durations in seconds, each the nearest float."""
    dtype = values.dtype
    assert isinstance(dtype, pl.Duration)
    units = values.to_physical().fill_null(0).to_numpy()
    per_second = _PER_DAY[dtype.time_unit] // 86_400
    if dtype.time_unit == "ns" and not (units % 1000).any():  # fewer digits, so that the quotient is the nearest float
        units, per_second = units // 1000, per_second // 1000
    # Polars multiplies by the reciprocal, which is not the nearest float.
    seconds = pl.Series(values.name, units / per_second, dtype=pl.Float64)
    return seconds.set(values.is_null(), None)


def storable_dtype(dtype: Any) -> Any:
    """Return the type in which lists and records are stored; durations in them are whole numbers of their unit."""
    if isinstance(dtype, pl.List | pl.Array):
        inner = dtype.inner
        return pl.List(storable_dtype(inner))
    if isinstance(dtype, pl.Map):
        return pl.Map(storable_dtype(dtype.key), storable_dtype(dtype.value))
    if isinstance(dtype, pl.Struct):
        return pl.Struct({field.name: storable_dtype(field.dtype) for field in dtype.fields})
    if isinstance(dtype, pl.datatypes.BaseExtension):
        return storable_dtype(dtype.ext_storage())
    if dtype.is_integer() or isinstance(dtype, pl.Duration):
        return pl.Int64()
    if isinstance(dtype, pl.Categorical | pl.Enum) or dtype in (pl.Null, pl.Time):
        return pl.String()
    if isinstance(dtype, pl.Datetime):
        return pl.Datetime("us", "UTC" if dtype.time_zone else None)
    return pl.Float64() if dtype == pl.Float16 else dtype
