"""Freeze windows: the times in which nothing is deployed."""

import re
from datetime import date, datetime
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tidemill.errors import ConfigurationError

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEKLY = re.compile(rf"({'|'.join(_DAYS)}) (\d\d):(\d\d) - ({'|'.join(_DAYS)}) (\d\d):(\d\d)")
_DATES = re.compile(r"(\d{4}-\d\d-\d\d) - (\d{4}-\d\d-\d\d)")
_CURE = 'write "fri 16:00 - mon 08:00" for each week, or "2026-12-20 - 2027-01-02" for days, both included'


def find_freeze(windows: tuple[str, ...], zone: str, now: datetime) -> str:
    """Return the window that contains a time; empty if there is none.

    >>> from datetime import UTC
    >>> find_freeze(("fri 16:00 - mon 08:00",), "UTC", datetime(2026, 11, 29, 12, tzinfo=UTC))
    'fri 16:00 - mon 08:00'
    """
    local = now.astimezone(read_zone(zone))
    return next((window for window in windows if _contains(window, local)), "")


def read_zone(name: str) -> ZoneInfo:
    """Return a time zone; raise `ConfigurationError` if there is none with that name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ConfigurationError(f"there is no time zone {name!r}", 'use a name such as "Europe/Berlin"') from None


def check_window(window: str) -> None:
    """Raise `ConfigurationError` if a text is no freeze window, such as one with a date that does not exist."""
    _contains(window, datetime.min)


def _contains(window: str, local: datetime) -> bool:
    text = window.strip().lower()
    try:
        if match := _WEEKLY.fullmatch(text):
            return _contains_weekly(_minute_of_week(*match.groups()[:3]), _minute_of_week(*match.groups()[3:]), local)
        if match := _DATES.fullmatch(text):
            first, last = _read_date(match[1]), _read_date(match[2])
            if last < first:
                raise ValueError(f"{last} is before {first}")
            return first <= local.date() <= last
    except ValueError as error:
        raise ConfigurationError(f"{window!r} is no freeze window: {error}", _CURE) from None
    raise ConfigurationError(f"{window!r} is no freeze window", _CURE)


def _contains_weekly(begin: int, end: int, local: datetime) -> bool:
    if begin == end:
        raise ValueError("it ends when it begins")
    minute = local.weekday() * 1440 + local.hour * 60 + local.minute
    return begin <= minute < end if begin < end else minute >= begin or minute < end


def _read_date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"there is no day {text}") from None


def _minute_of_week(day: str, hour: str, minute: str) -> int:
    if int(hour) > 23 or int(minute) > 59:
        raise ValueError(f"there is no time {hour}:{minute}")
    return _DAYS.index(day) * 1440 + int(hour) * 60 + int(minute)
