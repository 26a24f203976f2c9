"""Types of a table's columns, and what they must become so that other rows fit without a loss."""

import polars as pl


def wider_types(table: pl.Schema, frame: pl.DataFrame) -> pl.Schema:
    """The columns of a table whose type cannot hold what a frame has in them, with the type that can.

    >>> wider_types(pl.Schema({"x": pl.Int64(), "y": pl.Float64()}), pl.DataFrame({"x": [2.5], "y": [2]}))
    Schema([('x', Float64)])
    """
    return pl.Schema(
        {
            name: _both(table[name], frame.schema[name])
            for name in frame.columns
            if name in table and not _holds(table[name], frame[name])
        }
    )


def _holds(kind: pl.DataType, values: pl.Series) -> bool:
    if values.dtype == kind or values.dtype.is_nested() or kind.is_nested() or values.null_count() == len(values):
        return True
    if values.dtype.is_temporal() and kind.is_temporal():
        return type(values.dtype) is type(kind) or (isinstance(kind, pl.Datetime) and values.dtype == pl.Date)
    try:
        kept = values.cast(kind)
    except pl.exceptions.PolarsError:
        return False
    if values.dtype.is_float() and kind.is_integer():
        return bool((kept == values).all())
    return values.dtype.is_numeric() == kind.is_numeric() or values.dtype == pl.String


def _both(one: pl.DataType, other: pl.DataType) -> pl.DataType:
    """The smallest type that holds both; text where there is no other."""
    if one.is_numeric() and other.is_numeric():
        both = pl.concat([pl.DataFrame(schema={"x": one}), pl.DataFrame(schema={"x": other})], how="vertical_relaxed")
        return both.schema["x"]
    return pl.String()
