"""Ticks: the times of cron triggers, in their time zones.

When the clocks are set back, a time with a fixed hour ("30 2 * * *") comes once, not twice; times of every hour come in
each hour. When they are set forward, a time that is skipped comes at the end of the gap.
"""

from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

from croniter import CroniterBadDateError, croniter

from tidemill.core.trigger import Trigger

_MAX_TICKS = 1000


def find_latest(trigger: Trigger, now: datetime) -> datetime | None:
    """Return the last tick that is not after `now`; None if there was none."""
    return next(_iterate_backwards(trigger, now), None)


def find_next(trigger: Trigger, last: datetime) -> datetime | None:
    """Return the first tick after `last`; None if there is none, as after the last year that a cron names."""
    ticks = _make_croniter(trigger, last)
    with suppress(CroniterBadDateError):
        while True:
            tick: datetime = ticks.get_next(datetime).astimezone(UTC)
            if not _is_repeated(trigger, tick):
                return tick
    return None


def list_passed(trigger: Trigger, last: datetime, now: datetime) -> list[datetime]:
    """Return the ticks after `last` and not after `now`, by `catch_up`: the newest, or all up to the newest 1000."""
    newest = find_latest(trigger, now)
    if newest is None or newest <= last:
        return []
    if trigger.catch_up != "all":
        return [newest]
    return sorted(islice(takewhile(lambda tick: tick > last, _iterate_backwards(trigger, now)), _MAX_TICKS))


def _iterate_backwards(trigger: Trigger, now: datetime) -> Iterator[datetime]:
    ticks = _make_croniter(trigger, now + timedelta(microseconds=1))
    with suppress(CroniterBadDateError):  # there are no more
        while True:
            tick: datetime = ticks.get_prev(datetime).astimezone(UTC)
            if not _is_repeated(trigger, tick):
                yield tick


def _is_repeated(trigger: Trigger, tick: datetime) -> bool:
    """Return whether the clock shows the time of a tick for the second time, and the trigger has a fixed hour."""
    fields = trigger.cron.split()
    is_hourly = fields[1].startswith("*") if len(fields) > 1 else trigger.cron == "@hourly"
    return not is_hourly and bool(tick.astimezone(ZoneInfo(trigger.zone)).fold)


def _make_croniter(trigger: Trigger, start: datetime) -> croniter:
    return croniter(trigger.cron, start.astimezone(ZoneInfo(trigger.zone)))
