"""Rows take the types that a model's signature names, whether they come as JSON or as a frame."""

import math
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NoReturn

import polars as pl

from tidemill.core.model import Input, Manifest
from tidemill.core.schema import ColumnType
from tidemill.data.frame import row_keys
from tidemill.data.moments import MOMENT, in_utc
from tidemill.errors import DataError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_WRITTEN = {"time": "write a time as 2026-03-01T12:30:00, or with its zone", "date": "write a date as 2026-03-01"}


def frame_of(rows: Sequence[dict[str, Any]], inputs: Iterable[Input], others: Iterable[str]) -> pl.DataFrame:
    """Rows as JSON gives them, as a frame of the inputs and of `others` that any of them brings.

    Rows that bring nothing that is used are still rows: they get one column without a name.

    Raises
    ------
    DataError
        if a value is not of its input's type; it names the row and the column.
    """
    brought = {name for row in rows for name in row}
    typed = {each.name: each.type for each in inputs}
    columns = [_series(name, kind, [row.get(name) for row in rows]) for name, kind in typed.items() if name in brought]
    columns += [
        _untyped(name, [row.get(name) for row in rows])
        for name in dict.fromkeys(others)
        if name in brought and name not in typed
    ]
    return pl.DataFrame(columns or [pl.Series("", [None] * len(rows))])


def conform(frame: pl.DataFrame, inputs: Iterable[Input]) -> pl.DataFrame:
    """The inputs alone, in their order and of their types; an absent one that may be missing is null.

    Raises
    ------
    DataError
        if one that may not be missing is, or a value is not of its type; it names the row and the column.
    """
    return pl.DataFrame([_conform(frame, each) for each in inputs])


def keys_of(frame: pl.DataFrame, names: Sequence[str]) -> list[str]:
    """The key of each row: its key columns as text, joined by `|`; empty where one is absent or null."""
    if not names or not set(names) <= set(frame.columns):
        return [""] * frame.height
    return row_keys(frame, names).fill_null("").to_list()


def moments_of(frame: pl.DataFrame, name: str, otherwise: pl.Series) -> pl.Series:
    """The event time of each row (UTC): its column `name`, or `otherwise` where that is absent or null."""
    if name not in frame.columns:
        return otherwise
    given = _cast(frame.get_column(name), "time")
    return given if not given.null_count() else given.zip_with(given.is_not_null(), otherwise)


def moments(name: str, values: Sequence[datetime | None]) -> pl.Series:
    """A column of UTC instants; by way of whole microseconds, which costs a twentieth of Polars' own way."""
    micros = [None if value is None else (value - _EPOCH) // _MICROSECOND for value in values]
    return pl.Series(name, micros, dtype=pl.Int64).cast(MOMENT)


def moment(text: str) -> datetime:
    """An instant, from ISO 8601; without a zone it is UTC. Raises `ValueError`."""
    read = datetime.fromisoformat(text)
    return read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC)


def misfit(place: int, name: str, kind: str, value: object) -> NoReturn:
    """Raise the error that names the row and the column of a value that does not fit."""
    shown = repr(value)
    raise DataError(
        f"row {place}: column {name!r} should hold {kind}, but holds {shown if len(shown) < 60 else shown[:60] + '…'}",
        _WRITTEN.get(kind, "send values of the types in the model's signature"),
    )


def _conform(frame: pl.DataFrame, each: Input) -> pl.Series:
    present = each.name in frame.columns
    if not present and not each.nullable:
        raise DataError(f"the rows have no column {each.name!r}, which the model needs", "send it in every row")
    if not present:
        return pl.Series(each.name, [None] * frame.height, dtype=_TYPES[each.type])
    values = _cast(frame.get_column(each.name), each.type)
    if not each.nullable and values.null_count():
        place = values.is_null().arg_max()
        raise DataError(f"row {place}: column {each.name!r} is missing, but the model needs it", "send it in every row")
    return values


def _cast(values: pl.Series, kind: ColumnType) -> pl.Series:
    given, wanted = values.dtype, _TYPES[kind]
    if given == wanted:
        return values
    if values.null_count() == len(values):
        return pl.Series(values.name, [None] * len(values), dtype=wanted)
    if kind == "number" and given.is_numeric():
        return values.cast(wanted)
    if kind == "integer" and given.is_numeric():
        whole = values.cast(wanted, strict=False)
        same = (whole == values).fill_null(False) | values.is_null()
        return whole if same.all() else misfit(_first(~same), values.name, kind, values[_first(~same)])
    if kind == "text" and isinstance(given, pl.Categorical | pl.Enum):
        return values.cast(wanted)
    if kind == "time" and isinstance(given, pl.Date | pl.Datetime):
        return in_utc(values, given)
    if kind in ("time", "date") and given == pl.String:
        return _series(values.name, kind, values.to_list())
    place = _first(values.is_not_null())
    return misfit(place, values.name, kind, values[place])


def _first(mask: pl.Series) -> int:
    return int(mask.arg_max() or 0)


def _series(name: str, kind: ColumnType, values: Sequence[Any]) -> pl.Series:
    read = _READERS[kind]
    try:
        taken = [None if value is None else read(value) for value in values]
        return moments(name, taken) if kind == "time" else pl.Series(name, taken, dtype=_TYPES[kind])
    except (TypeError, ValueError, OverflowError):
        for place, value in enumerate(values):
            if value is not None and not _readable(read, value):
                misfit(place, name, kind, value)
        raise


def _readable(read: Callable[[Any], Any], value: object) -> bool:
    try:
        read(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _untyped(name: str, values: Sequence[Any]) -> pl.Series:
    """A column that no signature types, such as a key: scalars of one type."""
    kinds: set[type] = {type(value) for value in values if value is not None}
    for kind, accepted in _SCALARS.items():
        if kinds <= accepted:
            return _series(name, kind, values)
    first = type(next(value for value in values if value is not None))
    for place, value in enumerate(values):
        if value is not None and (type(value) is not first or type(value) not in (bool, int, float, str)):
            misfit(place, name, "text, a number or a boolean, the same in all rows", value)
    raise AssertionError("unreachable")


def _boolean(value: object) -> bool:
    if isinstance(value, bool):
        return value
    raise TypeError


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or int(value) != value:
        raise TypeError
    if not -(1 << 63) <= value < 1 << 63:
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


_TYPES: dict[ColumnType, pl.DataType] = {
    "boolean": pl.Boolean(),
    "integer": pl.Int64(),
    "number": pl.Float64(),
    "text": pl.String(),
    "time": MOMENT,
    "date": pl.Date(),
}
_SCALARS: dict[ColumnType, set[type]] = {"boolean": {bool}, "integer": {int}, "number": {int, float}, "text": {str}}
_READERS: dict[ColumnType, Callable[[Any], Any]] = {
    "boolean": _boolean,
    "integer": _integer,
    "number": _number,
    "text": _text,
    "time": moment,
    "date": date.fromisoformat,
}


def timed(rows: pl.DataFrame, manifest: Manifest, known_at: pl.Series) -> pl.DataFrame:
    """The rows with their event time where the model takes it as an input: a row that brings none happens now."""
    name = manifest.time
    if name not in {one.name for one in manifest.signature.inputs}:
        return rows
    asked = known_at.cast(MOMENT)
    if name not in rows.columns:
        return rows.with_columns(asked.alias(name))
    if not rows[name].null_count() or not isinstance(rows.schema[name], pl.Datetime):
        return rows
    return rows.with_columns(pl.col(name).fill_null(asked.cast(rows.schema[name])))
