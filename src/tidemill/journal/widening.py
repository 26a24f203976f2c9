"""Wider types for the columns of a table, so that new rows fit without loss."""

from typing import Any

import polars as pl

from tidemill.errors import TidemillError


def wider_types(table: pl.Schema, frame: pl.DataFrame) -> pl.Schema:
    """Return the columns of a table whose type cannot store the values of a frame, with the wider type.

    >>> wider_types(pl.Schema({"x": pl.Int64(), "y": pl.Float64()}), pl.DataFrame({"x": [2.5], "y": [2]}))
    Schema([('x', Float64)])
    >>> wider_types(pl.Schema({"zip": pl.Int64()}), pl.DataFrame({"zip": ["02139"]}))
    Schema([('zip', String)])

    Raises
    ------
    TidemillError
        if a column has lists or records on one side only, or members of types that nothing can store together.
    """
    wider = {}
    for values in frame:
        kind = table.get(values.name)
        if kind is None or values.dtype == kind or values.null_count() == len(values):
            continue
        if not values.dtype.is_nested() and not kind.is_nested():
            if not _can_store(kind, values):
                wider[values.name] = _common_type(kind, values.dtype)
            continue
        common = _common_nested_type(kind, values.dtype)
        if common is None:
            raise TidemillError(
                f"column {values.name!r} has the type {kind} in the table and {values.dtype} in the batch, which "
                "cannot be stored together",
                "give the column one type in all batches, or another name; no row of the batch was written",
            )
        if common != kind:
            wider[values.name] = common
    return pl.Schema(wider)


def widen(frame: pl.DataFrame, types: pl.Schema) -> pl.DataFrame:
    """Return a frame with the wider types of its columns; records get the fields that they lack, with nulls."""
    before = frame.schema
    present = {name: dtype for name, dtype in types.items() if name in before}
    return frame.with_columns(
        _convert(pl.col(name), before[name], dtype).alias(name) for name, dtype in present.items()
    )


def _convert(values: pl.Expr, before: Any, after: Any) -> pl.Expr:
    if isinstance(before, pl.List) and isinstance(after, pl.List) and before != after:
        return values.list.eval(_convert(pl.element(), before.inner, after.inner))
    if isinstance(before, pl.Struct) and isinstance(after, pl.Struct) and before != after:
        types = {field.name: field.dtype for field in before.fields}
        fields = [
            _convert(values.struct.field(field.name), types[field.name], field.dtype).alias(field.name)
            if field.name in types
            else pl.lit(None, dtype=field.dtype).alias(field.name)
            for field in after.fields
        ]
        return pl.when(values.is_not_null()).then(pl.struct(fields))
    return values if before == after else values.cast(after)


def _can_store(kind: pl.DataType, values: pl.Series) -> bool:
    if values.dtype.is_temporal() and kind.is_temporal():
        return type(values.dtype) is type(kind) or (isinstance(kind, pl.Datetime) and values.dtype == pl.Date)
    try:
        converted = values.cast(kind)
    except pl.exceptions.PolarsError:
        return False
    if values.dtype.is_float() and kind.is_integer():
        return bool((converted == values).all())
    if values.dtype == pl.String and kind.is_numeric():
        return bool((converted.cast(pl.String) == values).all())  # 02139 is not 2139
    return values.dtype.is_numeric() == kind.is_numeric() or values.dtype == pl.String


def _common_type(first: pl.DataType, second: pl.DataType) -> pl.DataType:
    """Return the smallest type that can store both; text if there is no other."""
    if first.is_numeric() and second.is_numeric():
        frames = [pl.DataFrame(schema={"x": first}), pl.DataFrame(schema={"x": second})]
        return pl.concat(frames, how="vertical_relaxed").schema["x"]
    return pl.String()


def _common_nested_type(first: Any, second: Any) -> Any:
    """Return the smallest type of lists or records that can store both; None if there is none."""
    if first == second:
        return first
    if isinstance(first, pl.List) and isinstance(second, pl.List):
        inner = _common_nested_type(first.inner, second.inner)
        return None if inner is None else pl.List(inner)
    if isinstance(first, pl.Struct) and isinstance(second, pl.Struct):
        types: dict[str, Any] = {field.name: field.dtype for field in first.fields}
        for field in second.fields:
            types[field.name] = _common_nested_type(types.get(field.name, field.dtype), field.dtype)
        return None if None in types.values() else pl.Struct(types)
    if first.is_numeric() and second.is_numeric():
        return _common_type(first, second)
    return None
