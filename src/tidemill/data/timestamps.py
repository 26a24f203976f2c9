"""Reads text as times and dates: ISO 8601 alone, since 04/09 may be of April and of September. And one kind of time."""

import re
from collections.abc import Sequence
from datetime import UTC, datetime, time, timedelta, timezone
from typing import TypeVar

import polars as pl

Values = TypeVar("Values", pl.Expr, pl.Series)

TIMESTAMP = pl.Datetime("us", "UTC")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# One grammar for Polars and for Python.
_DAY = "(?P<year>[0-9]{4})[-/](?P<month>[0-9][0-9])[-/](?P<day>[0-9][0-9])"
_TIME = "(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-5][0-9])(?:[.,](?P<part>[0-9]{1,9}))?)?"
_ZONE = "(?:(?P<zulu>[Zz]|UTC)|(?P<sign>[+-])(?P<hours>[01][0-9]|2[0-3])(?::?(?P<minutes>[0-5][0-9]))?)"
_DATE = f"^{_DAY}$"
_MOMENT = f"^{_DAY}(?:[Tt ]{_TIME} ?{_ZONE}?)?$"
_PATTERN = re.compile(_MOMENT)


def parse_times(text: pl.Expr) -> pl.Expr:
    """Text as UTC instants, cut to the microsecond; null where it is none. A time without a zone is taken as UTC.

    >>> rows = pl.DataFrame({"at": ["2013-01-31 12:00+02:00", "2013-01-31", "31/01/2013"]})
    >>> rows.select(times(pl.col("at")))["at"].dt.to_string("%d %H:%M").to_list()
    ['31 10:00', '31 00:00', None]
    """
    return _instants(text, shift=True).map_batches(_within_years, return_dtype=TIMESTAMP)


def parse_dates(text: pl.Expr) -> pl.Expr:
    """Text as dates; null where it is none. A time is a date where it is midnight in its own zone.

    >>> rows = pl.DataFrame({"day": ["2013-01-31", "31.01.2013", "2013-01-31T00:00:00", "2013-01-31T07:00:00"]})
    >>> rows.select(dates(pl.col("day")))["day"].to_list()
    [datetime.date(2013, 1, 31), None, datetime.date(2013, 1, 31), None]
    """
    return _instants(text, shift=False).map_batches(_midnights, return_dtype=pl.Date)


def parse_days(text: pl.Expr) -> pl.Expr:
    """Text as dates, where it has no time of day; else null."""
    return pl.when(text.str.contains(_DATE)).then(parse_dates(text))


def _instants(text: pl.Expr, *, shift: bool) -> pl.Expr:
    """Text as instants: in UTC, or where they are not to `shift`, as the clock of their zone shows them."""
    found = text.str.extract_groups(_MOMENT).struct
    written = pl.format(
        "{}-{}-{}T{}:{}:{}.{}{}{}:{}",
        *(found.field(name) for name in ("year", "month", "day")),
        *(found.field(name).fill_null("00") for name in ("hour", "minute", "second")),
        found.field("part").fill_null("0"),
        found.field("sign").fill_null("+") if shift else pl.lit("+"),
        *(found.field(name).fill_null("00") if shift else pl.lit("00") for name in ("hours", "minutes")),
    )
    read = written.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", strict=False)
    return read.cast(TIMESTAMP).alias(text.meta.output_name())


# Functions of a whole column: an expression that names the parsed text twice would parse it twice.
def _within_years(values: pl.Series) -> pl.Series:
    """The times of years that Python knows, too; a zone may move one out of them."""
    beyond = ~values.dt.year().is_between(1, 9999)
    return values.set(beyond, None) if beyond.any() else values


def _midnights(values: pl.Series) -> pl.Series:
    """The dates of times that are midnights."""
    midnights = _within_years(values).dt.date()
    return midnights.set(values.dt.time() != time(), None)


def parse_timestamp(text: str, *, shift: bool = True) -> datetime:
    """An instant from the same text as `times` reads, in UTC; or as the clock of its zone shows it.

    Raises
    ------
    ValueError, OverflowError
        for text that is no time.

    >>> moment("2013-01-31 12:00+02:00").isoformat()
    '2013-01-31T10:00:00+00:00'
    """
    found = _PATTERN.fullmatch(text)
    if found is None:
        raise ValueError(text)
    year, month, day, hour, minute, second = (
        int(found[name] or 0) for name in ("year", "month", "day", "hour", "minute", "second")
    )
    part = int((found["part"] or "0")[:6].ljust(6, "0"))
    read = datetime(year, month, day, hour, minute, second, part, tzinfo=UTC)
    if not shift or not found["sign"]:
        return read
    offset = timedelta(hours=int(found["hours"]), minutes=int(found["minutes"] or 0))
    zone = timezone(offset if found["sign"] == "+" else -offset)
    return read.replace(tzinfo=zone).astimezone(UTC)


def to_timestamps(name: str, values: Sequence[datetime | None]) -> pl.Series:
    """A column of UTC instants; by way of whole microseconds, which costs a twentieth of Polars' own way."""
    micros = [None if value is None else (value - _EPOCH) // _MICROSECOND for value in values]
    return pl.Series(name, micros, dtype=pl.Int64).cast(TIMESTAMP)


def to_utc(values: Values, kind: pl.DataType) -> Values:
    """Times, or dates as their midnights, of a `kind` as UTC instants; one without a zone is taken as UTC.

    >>> from datetime import date
    >>> str(in_utc(pl.Series([date(2013, 1, 31)]), pl.Date())[0])
    '2013-01-31 00:00:00+00:00'
    """
    if isinstance(kind, pl.Datetime) and kind.time_zone:
        return values.dt.convert_time_zone("UTC").cast(TIMESTAMP)
    return values.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
