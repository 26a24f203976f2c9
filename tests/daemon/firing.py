"""Triggers on a clock of the test."""

import random
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from msgspec.structs import replace

from tidemill.clock import Clock, VirtualClock
from tidemill.core.trigger import Trigger
from tidemill.daemon.triggers import Triggers
from tidemill.ledger.ledger import Ledger
from tidemill.project.project import Project

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
RETRAIN = Trigger(name="retrain", on="verdict", where={"action": "retrain"}, pipeline="training", cooldown="1d")
HOURLY = Trigger(name="hourly", cron="0 * * * *", pipeline="watching")


def make_triggers(project: Project, ledger: Ledger, clock: Clock, *triggers: Trigger) -> Triggers:
    return Triggers(replace(project.policy, triggers=triggers), ledger, clock, "production")


class SettableClock:
    """A clock that a test sets, also back."""

    writable: ClassVar[bool] = False

    def __init__(self, now: datetime) -> None:
        self._clock = VirtualClock(now)
        self._now = now

    def set(self, to: datetime) -> None:
        self._now = to

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._clock.monotonic()

    def sleep(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)

    def mint(self) -> str:
        return VirtualClock(self._now, random.getrandbits(60)).mint()
