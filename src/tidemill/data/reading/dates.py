"""Dates and times that are not ISO 8601: by a declared format, as numbers since 1970, and the formats that fit."""

import re
from functools import lru_cache

import polars as pl

from tidemill.data.timestamps import TIMESTAMP
from tidemill.errors import InputError

UNITS = {
    "unix_seconds": 1_000_000,
    "unix_milliseconds": 1_000,
    "unix_microseconds": 1,
    "unix_nanoseconds": 0.001,
}
_YEARS = (-62_135_596_800_000_000, 253_402_300_799_999_999)  # the first and the last microsecond of 1 to 9999
_PARTS = {
    "%d": "[0-9]{1,2}",
    "%m": "[0-9]{1,2}",
    "%Y": "[0-9]{4}",
    "%y": "[0-9]{2}",
    "%b": "[A-Za-z]{3}",
    "%B": "[A-Za-z]{3,9}",
    "%a": "[A-Za-z]{3}",
    "%A": "[A-Za-z]{6,9}",
    "%H": "[0-9]{1,2}",
    "%I": "[0-9]{1,2}",
    "%M": "[0-9]{2}",
    "%S": "[0-9]{2}",
    "%p": "[AaPp][Mm]",
    "%.f": r"(?:[.,][0-9]{1,9})?",
    "%z": "(?:[+-][0-9]{2}:?[0-9]{2}|Z)",
}
_CLOCK = ("%H", "%I")
_DAY, _MONTH, _YEAR = frozenset({"%d"}), frozenset({"%m", "%b", "%B"}), frozenset({"%Y", "%y"})
_DAYS = (
    *("%d.%m.%Y", "%d.%m.%y", "%Y.%m.%d"),
    *("%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y"),
    *("%d/%m/%y", "%m/%d/%y", "%d-%m-%y", "%m-%d-%y", "%y/%m/%d", "%y-%m-%d"),
    *("%d %B %Y", "%B %d, %Y", "%B %d %Y", "%d-%B-%Y", "%d-%B-%y", "%d %B %y", "%d. %B %Y", "%Y-%m-%d", "%Y/%m/%d"),
)
_TIMES = (
    *("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p", " %I:%M%p", " %I:%M:%S%p", " %H:%M:%S%.f"),
    *("T%H:%M", "T%H:%M:%S", "T%H:%M:%S%.f", ", %H:%M", ", %H:%M:%S", ", %I:%M %p", ", %I:%M:%S %p"),
)
_MONTHS = (
    *("%Y-%m", "%Y/%m", "%Y.%m", "%m/%Y", "%m-%Y", "%m.%Y", "%Y%m"),
    *("%B %Y", "%B-%Y", "%B. %Y", "%Y %B", "%Y-%B", "%B-%y", "%B %y", "%Y"),
)
_MAILS = tuple(f"%a, %d %b %Y %H:%M:%S{zone}" for zone in (" %z", " GMT", ""))
_COMPACT_TIMES = tuple(f"%Y%m%dT%H%M{rest}" for rest in ("%S%z", "%S", "%z", ""))
FORMATS = tuple(day + clock for clock in _TIMES for day in _DAYS)
_LIKELY = re.compile(r"^\w{1,9}[-./, ]+\w{1,9}[-./, ]+\d{2,4}|^\d{4}[-./]\d{1,2}[-./]\d{1,2}")


def require_format(form: str) -> str:
    """Return a format of days, months, years or Unix time.

    Raises
    ------
    InputError
        if it has no year, a day without a month, a time of day without a day, or an unknown part.
    """
    parts = set(_split(form))
    needed = [_YEAR] + [_MONTH] * bool(parts & _DAY) + [_DAY] * bool(parts & set(_CLOCK))
    complete = all(parts & names for names in needed)
    if form not in UNITS and (not complete or any(part[:1] == "%" and part not in _PARTS for part in parts)):
        raise InputError(
            f"{form!r} is not a format of dates",
            f"write a format such as %d.%m.%Y, %m/%d/%Y %H:%M or %Y-%m, or one of: {', '.join(UNITS)}",
        )
    return form


def _split(form: str) -> list[str]:
    return re.findall(r"%\.f|%.|[^%]", form)


def parse_format(values: pl.Series, form: str) -> pl.Series:
    """Return a column of text or numbers as dates or times in UTC; null if a value does not have the format."""
    if form in UNITS:
        return _from_numbers(values, UNITS[form])
    text = (values if values.dtype == pl.String else values.cast(pl.String)).str.strip_chars()
    if "%.f" in form:
        text = text.str.replace(r",([0-9]{1,9})( |[+-]|$)", ".${1}${2}")
    matched = text.set(~text.str.contains(_grammar(form)), None)
    if "%z" in form:
        matched = matched.str.replace("Z$", "+00:00")
    # A month or a year is its first day.
    for names, first in ((_MONTH, "%m"), (_DAY, "%d")):
        if not names & set(_split(form)):
            matched, form = matched + " 01", f"{form} {first}"
    if any(part in form for part in _CLOCK):
        zoned = "%z" in form
        times = matched.str.to_datetime(form, time_unit="us", time_zone="UTC" if zoned else None, strict=False)
        return times.cast(TIMESTAMP) if zoned else times.dt.replace_time_zone("UTC")
    return matched.str.to_date(form, strict=False)


@lru_cache
def _grammar(form: str) -> str:
    parts = _split(form)
    patterns = [_PARTS.get(part) or re.escape(part) for part in parts]
    for position, following in enumerate([*parts[1:], ""]):
        # Without a character between two parts, each has all its digits.
        beside = (following, parts[position - 1] if position else "")
        if any(other in _PARTS and other not in ("%.f", "%p", "%z") for other in beside):
            patterns[position] = patterns[position].replace("{1,2}", "{2}")
    return "^" + "".join(patterns) + "$"


def _from_numbers(values: pl.Series, factor: float) -> pl.Series:
    """Return times of numbers in a unit of `factor` microseconds; null before the year 1 and after the year 9999."""
    numbers = values.cast(pl.Float64, strict=False) * factor
    micros = numbers.round(0).cast(pl.Int64, strict=False)
    if not values.dtype.is_float():  # a number of 17 digits is not exact as a float
        exact = values.cast(pl.Int64, strict=False)
        micros = (exact * int(factor) if factor >= 1 else exact // 1_000).fill_null(micros)
    return micros.set(~numbers.is_between(*_YEARS).fill_null(value=False), None).cast(TIMESTAMP)


def find_formats(values: pl.Series) -> list[str]:
    """Return every format in which all values of a column of text are dates or times; empty for ISO 8601."""
    sample = values.drop_nulls().unique().str.strip_chars()
    first = sample.head(1_000)
    if first.is_empty() or not _LIKELY.match(first[0]):
        return []
    fitting = [form for form in FORMATS if parse_format(first, form).null_count() == 0]
    fitting = [form for form in fitting if parse_format(sample, form).null_count() == 0]
    return [form for form in fitting if not form.endswith("%.f") or form.removesuffix("%.f") not in fitting]


def find_common_format(values: pl.Series, share: float) -> str:
    """Return a format that at least this share of the values has, or an empty text."""
    likely = values.str.contains(_LIKELY.pattern)
    if likely.sum() < share * len(values):
        return ""
    most = len(values) * (1 - share)
    return next((form for form in FORMATS if parse_format(values, form).null_count() <= most), "")


def find_compact_format(values: pl.Series) -> str:
    """Return the format in which a column of integers has dates such as 20130131, or an empty text."""
    # Compared as numbers of Python: the limits do not fit in a column of few bits.
    least, most = values.min(), values.max()
    if not isinstance(least, int) or not isinstance(most, int):
        return ""
    for form, unit in _COMPACT.items():
        if 1900 * unit <= least and most <= 2100 * unit and not parse_format(values, form).null_count():
            return form
    return ""


def find_format_of_times(values: pl.Series) -> str:
    """Return a format for a column that a person names as times, also of months and years, or an empty text."""
    known = values.drop_nulls()
    if known.dtype.is_numeric():
        whole = known.cast(pl.Int64, strict=False)
        if unit := find_unix_unit(whole):
            return unit
        if not known.dtype.is_integer():
            return ""
        if compact := find_compact_format(whole):
            return compact
    forms = ("%Y%m", "%Y") if known.dtype.is_numeric() else (*_MONTHS, *_MAILS, *_COMPACT_TIMES)
    return next((form for form in forms if len(known) and not parse_format(known, form).null_count()), "")


_COMPACT = {"%Y%m%d": 10**4, "%Y%m%d%H%M": 10**8, "%Y%m%d%H%M%S": 10**10}
_TIME_LIKE = r"^(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4})[T ,]+\d{1,2}[:.]\d{2}"


def find_unreadable_times(values: pl.Series, share: float) -> pl.Series:
    """Return the values of a column that begin as dates with times do, if at least this share of the values does."""
    likely = values.filter(values.str.contains(_TIME_LIKE))
    return likely if len(likely) and len(likely) >= share * len(values) else likely.clear()


def find_unix_unit(values: pl.Series) -> str:
    """Return the unit in which a column of integers is a time between 2000 and 2040, or an empty text."""
    least, most = values.min(), values.max()
    if not isinstance(least, int) or not isinstance(most, int):
        return ""
    for unit, factor in UNITS.items():
        low, high = (int(seconds * 1_000_000 / factor) for seconds in (946_684_800, 2_208_988_800))
        if low <= least <= most < high:
            return unit
    return ""
