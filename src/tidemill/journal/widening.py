"""Wider types for the columns of a table, so that new rows fit without loss."""

import polars as pl


def wider_types(table: pl.Schema, frame: pl.DataFrame) -> pl.Schema:
    """Return the columns of a table whose type cannot store the values of a frame, with the wider type.

    >>> wider_types(pl.Schema({"x": pl.Int64(), "y": pl.Float64()}), pl.DataFrame({"x": [2.5], "y": [2]}))
    Schema([('x', Float64)])
    >>> wider_types(pl.Schema({"zip": pl.Int64()}), pl.DataFrame({"zip": ["02139"]}))
    Schema([('zip', String)])
    """
    return pl.Schema(
        {
            name: _common_type(table[name], frame.schema[name])
            for name in frame.columns
            if name in table and not _can_store(table[name], frame[name])
        }
    )


def _can_store(kind: pl.DataType, values: pl.Series) -> bool:
    if values.dtype == kind or values.dtype.is_nested() or kind.is_nested() or values.null_count() == len(values):
        return True
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
