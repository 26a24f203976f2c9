"""Reads text as times and dates: ISO 8601 alone, since 04/09 may be of April and of September. And one kind of time."""

from typing import TypeVar

import polars as pl

Values = TypeVar("Values", pl.Expr, pl.Series)

MOMENT = pl.Datetime("us", "UTC")
_DAY = r"(?P<year>\d{4})[-/](?P<month>\d\d)[-/](?P<day>\d\d)"
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:[.,](?P<part>\d{1,9}))?)?"
_ZONE = r"(?:(?P<zulu>[Zz]|UTC)|(?P<sign>[+-])(?P<hours>\d\d)(?::?(?P<minutes>\d\d))?)"
_DATE = f"^{_DAY}$"
_MOMENT = rf"^{_DAY}(?:[Tt ]{_TIME} ?{_ZONE}?)?$"


def times(text: pl.Expr) -> pl.Expr:
    """Text as UTC instants, to the microsecond; null where it is none. A time without a zone is taken as UTC.

    >>> said = pl.Series(["2013-01-31 12:00+02:00", "2013-01-31", "31/01/2013"])
    >>> pl.select(times(pl.lit(said))).to_series().dt.to_string("%d %H:%M").to_list()
    ['31 10:00', '31 00:00', None]
    """
    found = text.str.extract_groups(_MOMENT).struct
    written = pl.format(
        "{}-{}-{}T{}:{}:{}.{}{}{}:{}",
        *(found.field(name) for name in ("year", "month", "day")),
        *(found.field(name).fill_null("00") for name in ("hour", "minute", "second")),
        found.field("part").fill_null("0"),
        found.field("sign").fill_null("+"),
        *(found.field(name).fill_null("00") for name in ("hours", "minutes")),
    )
    read = written.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%:z", time_unit="us", strict=False)
    return read.cast(MOMENT).alias(text.meta.output_name())


def dates(text: pl.Expr) -> pl.Expr:
    """Text as dates; null where it is none.

    >>> pl.select(dates(pl.lit(pl.Series(["2013-01-31", "31.01.2013"])))).to_series().to_list()
    [datetime.date(2013, 1, 31), None]
    """
    found = text.str.extract_groups(_DATE).struct
    written = pl.format("{}-{}-{}", *(found.field(name) for name in ("year", "month", "day")))
    return written.str.to_date("%Y-%m-%d", strict=False).alias(text.meta.output_name())


def in_utc(values: Values, kind: pl.DataType) -> Values:
    """Times, or dates as their midnights, of a `kind` as UTC instants; one without a zone is taken as UTC.

    >>> from datetime import date
    >>> str(in_utc(pl.Series([date(2013, 1, 31)]), pl.Date())[0])
    '2013-01-31 00:00:00+00:00'
    """
    if isinstance(kind, pl.Datetime) and kind.time_zone:
        return values.dt.convert_time_zone("UTC").cast(MOMENT)
    return values.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
