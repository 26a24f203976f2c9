"""Formats keys and classes as text: 7 and 7.0 are the same."""

from collections.abc import Sequence

import polars as pl


def count_values(values: pl.Series) -> pl.DataFrame:
    """Return the columns `value` and `count` of the values that are not null, the most frequent first.

    >>> count_values(pl.Series("count", ["b", "a", "b", None])).rows()
    [('b', 2), ('a', 1)]
    """
    counts = values.drop_nulls().alias("value").value_counts(name="count")
    return counts.sort("count", "value", descending=[True, False])


def to_class_names(values: pl.Series) -> pl.Series:
    """Format labels as class names: `true`/`false`, whole numbers without a point, text unchanged; nulls stay.

    >>> to_class_names(pl.Series([1.0, 0.0, None])).to_list()
    ['1', '0', None]
    """
    if values.dtype.is_float() and bool((values.drop_nulls() == values.drop_nulls().round()).all()):
        values = values.cast(pl.Int64, strict=False)
    return values.cast(pl.String)


def to_key_text(values: pl.Series) -> pl.Series:
    """Format keys as text; whole floats, as in a column with nulls, are formatted as integers.

    >>> to_key_text(pl.Series([7.0, 7.5, None])).to_list()
    ['7', '7.5', None]
    """
    if not values.dtype.is_float():
        return values.cast(pl.String)
    whole = values.cast(pl.Int64, strict=False)
    return values.cast(pl.String).zip_with((values != whole).fill_null(value=True), whole.cast(pl.String))


def to_row_keys(frame: pl.DataFrame, names: Sequence[str]) -> pl.Series:
    """Return the key of each row in the journal: its key columns as text, joined by `|`; null if one is null."""
    texts = [to_key_text(frame[name]) for name in names]
    return texts[0] if len(texts) == 1 else pl.select(pl.concat_str(texts, separator="|").alias("key")).to_series()
