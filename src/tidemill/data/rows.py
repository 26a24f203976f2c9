"""Checks and types all rows for a model, from JSON or a frame, by the types of the model's inputs."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import polars as pl

from tidemill.core.model import Input
from tidemill.core.schema import ColumnType
from tidemill.data.timestamps import to_timestamps
from tidemill.data.types import RULES, UNCHANGED, Conversion, find_conversion
from tidemill.errors import DataError

_LONGEST = 60
_SCALARS: dict[ColumnType, set[type]] = {"boolean": {bool}, "integer": {int}, "number": {int, float}, "text": {str}}


class RowReader:
    """Reads the rows for a model's inputs; create one for each signature, and keep it with the loaded model.

    JSON rows and frames are typed by one table, `tidemill.data.types`: the same values become the same columns. A value
    that cannot be converted without loss is refused with its row, its column and the expected type.
    """

    def __init__(self, inputs: Iterable[Input]) -> None:
        self.inputs = tuple(inputs)
        self._readers = {field.name: _reader(field.name, field.type) for field in self.inputs}

    def read_json(self, rows: Sequence[dict[str, Any]], extra: Iterable[str] = ()) -> pl.DataFrame:
        """Return the rows of a JSON request: the inputs and the `extra` columns that at least one row has.

        A column that no row has is excluded, so that a feature store can add it; `read_frame` completes the rows.
        Rows without any of these columns get one column without a name, so that their number stays.

        Raises
        ------
        DataError
            if a value is not of its input's type, or an extra column has values of several types.
        """
        present = {name for row in rows for name in row}
        columns = [read([row.get(name) for row in rows]) for name, read in self._readers.items() if name in present]
        columns += [
            _read_scalars(name, [row.get(name) for row in rows])
            for name in dict.fromkeys(extra)
            if name in present and name not in self._readers
        ]
        return pl.DataFrame(columns or [pl.Series("", [None] * len(rows))])

    def read_frame(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return the inputs of a frame, in the order and types of the signature; a missing nullable input is null.

        Raises
        ------
        DataError
            if a required input is missing or null, or a value is not of its type.
        """
        columns = set(frame.columns)
        present = {field.name: field.type for field in self.inputs if field.name in columns}
        typed = convert_columns(frame, present)
        return pl.DataFrame([_complete(typed.get(field.name), field, frame.height) for field in self.inputs])


def convert_columns(
    frame: pl.DataFrame, types: Mapping[str, ColumnType], *, parse_text: bool = False
) -> dict[str, pl.Series]:
    """Convert columns of a frame to these types; with `parse_text`, text with a number becomes a number.

    Raises
    ------
    DataError
        if a value is not of its type.
    """
    columns = {name: frame.get_column(name) for name in types}
    conversions = {
        name: _conversion(values, types[name], parse_text=parse_text)
        for name, values in columns.items()
        if values.dtype != RULES[types[name]].dtype
    }
    changed = {
        name: conversion.convert(pl.col(name))
        for name, conversion in conversions.items()
        if conversion is not UNCHANGED
    }
    for after in frame.select(expression.alias(name) for name, expression in changed.items()) if changed else ():
        before = columns[after.name]
        if not conversions[after.name].total and after.null_count() > before.null_count():
            _misfit(_first(after.is_null() & before.is_not_null()), before, types[after.name])
        columns[after.name] = after
    return columns


def raise_wrong_value(row: int, name: str, expected: str, value: object, cure: str = "") -> NoReturn:
    """Raise the error for a value that is not of its column's type."""
    shown = repr(value)
    shown = shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "…"
    raise DataError(
        f"row {row}: column {name!r} should be {expected}, but is {shown}",
        cure or "send values of the types in the model's signature",
    )


def _misfit(row: int, values: pl.Series, kind: ColumnType) -> NoReturn:
    raise_wrong_value(row, values.name, f"of type {kind}", values.slice(row, 1).to_list()[0], RULES[kind].cure)


def _conversion(values: pl.Series, kind: ColumnType, *, parse_text: bool) -> Conversion:
    return find_conversion(kind, values, parse_text=parse_text) or _misfit(_first(values.is_not_null()), values, kind)


def _complete(values: pl.Series | None, field: Input, height: int) -> pl.Series:
    """Return the typed column of an input, or nulls for a missing nullable input."""
    if values is None:
        if not field.nullable:
            raise DataError(f"the rows have no column {field.name!r}, which the model needs", "send it in every row")
        return pl.Series(field.name, [None] * height, dtype=RULES[field.type].dtype)
    if not field.nullable and values.null_count():
        row = _first(values.is_null())
        raise DataError(f"row {row}: column {field.name!r} is missing, but the model needs it", "send it in every row")
    return values


def _first(mask: pl.Series) -> int:
    return int(mask.arg_max() or 0)


def _reader(name: str, kind: ColumnType) -> Callable[[Sequence[Any]], pl.Series]:
    """Return the function that reads the JSON values of a column."""
    rule = RULES[kind]
    read = rule.read

    def read_column(values: Sequence[Any]) -> pl.Series:
        try:
            typed = [None if value is None else read(value) for value in values]
        except (TypeError, ValueError, OverflowError):
            row = next(row for row, value in enumerate(values) if value is not None and not _readable(read, value))
            raise_wrong_value(row, name, f"of type {kind}", values[row], rule.cure)
        return to_timestamps(name, typed) if kind == "time" else pl.Series(name, typed, dtype=rule.dtype)

    return read_column


def _readable(read: Callable[[Any], Any], value: object) -> bool:
    try:
        read(value)
    except (TypeError, ValueError, OverflowError):
        return False
    return True


def _read_scalars(name: str, values: Sequence[Any]) -> pl.Series:
    """Read a column without a declared type, such as a key: text, numbers or booleans, the same in all rows."""
    types: set[type] = {type(value) for value in values if value is not None}
    for kind, accepted in _SCALARS.items():
        if types <= accepted:
            return _reader(name, kind)(values)
    first = next(type(value) for value in values if value is not None)
    fitting = {first} & {bool, int, float, str}
    row = next(row for row, value in enumerate(values) if value is not None and type(value) not in fitting)
    raise_wrong_value(row, name, "text, a number or a boolean, the same in all rows", values[row])
