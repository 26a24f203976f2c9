"""Folders such as `month=2025-01`, as Spark and Hive write them: their names and values are columns of the rows."""

from collections.abc import Mapping
from pathlib import PurePosixPath
from urllib.parse import unquote

import polars as pl

from tidemill.core.dialect import Dialect
from tidemill.core.schema import ColumnType
from tidemill.data.reading.delimited import name_columns
from tidemill.data.reading.values import NULLS, type_columns

_NULL = "__HIVE_DEFAULT_PARTITION__"


def add_partitions(frame: pl.DataFrame, path: str, dialect: Dialect, types: Mapping[str, ColumnType]) -> pl.DataFrame:
    """Return rows with the columns that the folders of their file name; a column of the file itself is kept.

    Raises
    ------
    Unreadable
        if two folders have names that differ only in upper and lower case.

    >>> add_partitions(pl.DataFrame({"n": [1]}), "year=2025/shop=07/a.csv", Dialect(), {}).row(0)
    (1, 2025, '07')
    """
    present = {name.casefold() for name in frame.columns}
    values = {name: value for name, value in find_partitions(path).items() if name.casefold() not in present}
    if not values:
        return frame
    name_columns(list(values), path)
    columns = pl.DataFrame([pl.Series(name, [value], pl.String) for name, value in values.items()])
    # The names of these folders have a word of their own for null: NA is a code, such as that of Namibia.
    codes = [name for name, value in values.items() if value in NULLS and value not in dialect.nulls]
    plain = Dialect(nulls=dialect.nulls, texts=(*dialect.texts, *codes), date_formats=dialect.date_formats)
    typed = type_columns(columns, plain, types)
    return frame.with_columns(pl.lit(column).first().alias(column.name) for column in typed)


def find_partitions(path: str) -> dict[str, str | None]:
    """Return the names and values of the folders of a path.

    >>> find_partitions("month=2025-01/city=S%C3%A3o/rows.parquet")
    {'month': '2025-01', 'city': 'São'}
    """
    folders = [folder.partition("=") for folder in PurePosixPath(path).parts[:-1]]
    return {
        unquote(name): None if value == _NULL else unquote(value)
        for name, is_pair, value in folders
        if name and is_pair
    }
