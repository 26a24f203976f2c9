"""Adds the event time and the known-at time to the rows of a source, both in UTC; checks the number of answers."""

from datetime import datetime

import polars as pl

from tidemill.clock import parse_duration
from tidemill.core.columns import ARRIVED as ARRIVED
from tidemill.core.columns import KNOWN_AT as KNOWN_AT
from tidemill.core.columns import TIME as TIME
from tidemill.core.columns import require_usable_names
from tidemill.core.source import Source
from tidemill.data.storable import to_storable
from tidemill.data.timestamps import TIMESTAMP, parse_times, repeat_time, to_utc
from tidemill.errors import DataError, TidemillError


def add_times(
    frame: pl.DataFrame, source: Source, name: str, arrived: datetime, *, lenient: bool = False
) -> pl.DataFrame:
    """Add the event time and the known-at time (UTC): from the source's columns, or the time at which the rows arrived.

    A time without a zone is UTC. A value that is not a time raises `DataError`; with `lenient` it becomes null, so that
    a check can report it.

    Raises
    ------
    Unreadable
        if a column has a name that no table can have, or values that can be stored in no type without loss.
    DataError
        if a value is not a time.
    """
    require_usable_names(frame.columns, f"source {name!r}")
    frame = to_storable(frame, f"source {name!r}")
    read = parse_time_column_or_null if lenient else parse_time_column
    if not source.time and not source.known_at:
        return add_columns(frame, [repeat_time(column, arrived, frame.height) for column in (TIME, KNOWN_AT)])
    arrival = pl.lit(arrived).cast(TIMESTAMP)
    time = read(frame, source.time, name) if source.time else arrival
    if source.known_at:
        known = read(frame, source.known_at, name)
    elif source.time:
        known = time + parse_duration(source.delay)
    else:
        known = arrival
    return frame.with_columns(time.alias(TIME), known.alias(KNOWN_AT))


def add_columns(frame: pl.DataFrame, columns: list[pl.Series]) -> pl.DataFrame:
    """Return a frame with more columns, as `with_columns` does, which is slow for small frames."""
    is_new = frame.width and not {values.name for values in columns} & set(frame.columns)
    return frame.hstack(columns) if is_new else frame.with_columns(columns)


def parse_time_column(frame: pl.DataFrame, column: str, name: str) -> pl.Expr:
    """Return a column as times in UTC.

    Raises
    ------
    DataError
        if the column is missing, or a value is not a time.
    """
    if column not in frame.columns:
        raise DataError(f"source {name!r} has no column {column!r}", f"its columns: {', '.join(frame.columns)}")
    kind = frame.schema[column]
    values = pl.col(column)
    if kind == pl.String:
        if wrong := frame.filter(parse_times(values).is_null() & values.is_not_null())[column].head(1).to_list():
            raise DataError(
                f"column {column!r} of source {name!r} contains text, not ISO 8601 times, such as {wrong[0]!r}",
                "write times as 2013-01-31T12:00:00Z",
            )
        return parse_times(values)
    if isinstance(kind, pl.Date | pl.Datetime):
        return to_utc(values, kind)
    raise DataError(f"column {column!r} of source {name!r} is {kind}, not a time", "use a column of dates or times")


def parse_time_column_or_null(frame: pl.DataFrame, column: str, name: str) -> pl.Expr:
    """Return a column as times in UTC; null if a value is not a time, or the column is missing."""
    try:
        return parse_time_column(frame, column, name)
    except DataError:
        if frame.schema.get(column) == pl.String:
            return parse_times(pl.col(column))
        return pl.lit(None, TIMESTAMP)


def require_one_answer_each(rows: int, answers: int, about: str) -> None:
    """Raise `TidemillError` unless n rows have n answers: a row without an answer, or with two, falsifies a metric."""
    if answers != rows:
        raise TidemillError(
            f"{about}: {rows} rows have {answers} answers, instead of one for each row",
            "this is an error in Tidemill: report it with this message; the result is not used",
        )
