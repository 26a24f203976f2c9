"""Ticks: when the crons of triggers are due, in their own time zones."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from croniter import croniter

from tidemill.core.trigger import Trigger

_MOST = 1000


def latest(trigger: Trigger, now: datetime) -> datetime:
    """The last tick that is not after `now`."""
    return _of(trigger, now + timedelta(microseconds=1)).get_prev(datetime).astimezone(UTC)  # type: ignore[no-any-return]


def following(trigger: Trigger, last: datetime) -> datetime:
    """The first tick after `last`."""
    return _of(trigger, last).get_next(datetime).astimezone(UTC)  # type: ignore[no-any-return]


def passed(trigger: Trigger, last: datetime, now: datetime) -> list[datetime]:
    """The ticks after `last` and not after `now` that count: all of them, or the latest; at most the newest 1000."""
    newest = latest(trigger, now)
    if newest <= last:
        return []
    if trigger.catch_up != "all":
        return [newest]
    return sorted(islice(_back(trigger, now, last), _MOST))


def _back(trigger: Trigger, now: datetime, last: datetime) -> Iterator[datetime]:
    ticks = _of(trigger, now + timedelta(microseconds=1))
    while (tick := ticks.get_prev(datetime).astimezone(UTC)) > last:
        yield tick


def _of(trigger: Trigger, start: datetime) -> croniter:
    return croniter(trigger.cron, start.astimezone(ZoneInfo(trigger.zone)))
