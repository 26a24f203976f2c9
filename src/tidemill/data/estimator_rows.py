"""The rows that an estimator gets: numbers, or a frame with names; it needs only NumPy, Polars and, for some, pandas.

A package whose estimator gets a frame contains this file as `code/tidemill_rows.py`, so that an exported model builds
the same frame.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np
import polars as pl

# numbers: the encoded matrix · polars-numbers: the same as a frame with names · polars, pandas: a frame of columns in
# their own types · catboost: a Polars frame without nulls in text, and with times as days since 1970
RowForm = Literal["numbers", "polars", "catboost", "polars-numbers", "pandas"]

_DAY = 86_400_000_000


def has_pandas() -> bool:
    """Return whether pandas is installed."""
    return find_spec("pandas") is not None


def to_estimator_rows(form: RowForm, table: pl.DataFrame, matrix: Any, names: Sequence[str]) -> Any:
    """Return rows in a form: `table` has the typed columns, `matrix` the encoded ones, which are called `names`."""
    if form == "numbers":
        return matrix
    if form == "polars-numbers":
        return pl.DataFrame(np.asarray(matrix), schema=list(names))
    if form == "catboost":
        times = pl.selectors.temporal().cast(pl.Datetime("us")).to_physical() / _DAY
        return table.with_columns(pl.col(pl.String).fill_null("nan"), times)
    return to_pandas(table) if form == "pandas" else table


def to_array(table: pl.DataFrame) -> Any:
    """Return columns as an array: of numbers with NaN if all are numbers or booleans, otherwise of objects."""
    if all(dtype.is_numeric() or dtype == pl.Boolean for dtype in table.dtypes):
        return table.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return table.to_numpy().astype(object)


def to_pandas(table: pl.DataFrame, categories: Mapping[str, Sequence[Any]] | None = None) -> Any:
    """Return columns as a pandas frame, as `pandas.read_csv` would type them: NaN for missing text and numbers.

    `categories` has the values of columns that become pandas categories, in the order of their codes; another value is
    missing.
    """
    import pandas

    columns = {}
    for values in table:
        known = (categories or {}).get(values.name)
        if known is not None:
            codes = {value: code for code, value in enumerate(known)}
            columns[values.name] = pandas.Categorical.from_codes(
                [codes.get(value, -1) for value in values.to_list()], categories=pandas.Index(list(known))
            )
        elif values.dtype == pl.String:
            texts = np.array([np.nan if text is None else text for text in values.to_list()], dtype=object)
            columns[values.name] = pandas.Series(texts, dtype=object)
        elif values.dtype.is_temporal():
            columns[values.name] = pandas.Series(pandas.to_datetime(values.to_list(), utc=values.dtype != pl.Date))
        else:
            columns[values.name] = pandas.Series(values.to_numpy())
    return pandas.DataFrame(columns, columns=table.columns)
