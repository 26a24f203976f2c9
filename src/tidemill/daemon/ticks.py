"""Ticks: the times of cron triggers, in their time zones."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from croniter import croniter

from tidemill.core.trigger import Trigger

_MAX_TICKS = 1000


def find_latest(trigger: Trigger, now: datetime) -> datetime:
    """Return the last tick that is not after `now`."""
    return _make_croniter(trigger, now + timedelta(microseconds=1)).get_prev(datetime).astimezone(UTC)  # type: ignore[no-any-return]


def find_next(trigger: Trigger, last: datetime) -> datetime:
    """Return the first tick after `last`."""
    return _make_croniter(trigger, last).get_next(datetime).astimezone(UTC)  # type: ignore[no-any-return]


def list_passed(trigger: Trigger, last: datetime, now: datetime) -> list[datetime]:
    """Return the ticks after `last` and not after `now`, by `catch_up`: the newest, or all up to the newest 1000."""
    newest = find_latest(trigger, now)
    if newest <= last:
        return []
    if trigger.catch_up != "all":
        return [newest]
    return sorted(islice(_iterate_backwards(trigger, now, last), _MAX_TICKS))


def _iterate_backwards(trigger: Trigger, now: datetime, last: datetime) -> Iterator[datetime]:
    ticks = _make_croniter(trigger, now + timedelta(microseconds=1))
    while (tick := ticks.get_prev(datetime).astimezone(UTC)) > last:
        yield tick


def _make_croniter(trigger: Trigger, start: datetime) -> croniter:
    return croniter(trigger.cron, start.astimezone(ZoneInfo(trigger.zone)))
