"""Triggers by the clock: each tick fires once, whatever the clock shows."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from tests.daemon.firing import HOURLY, NOON, RETRAIN, SettableClock, make_triggers
from tidemill.clock import VirtualClock
from tidemill.core.trigger import CatchUp, Trigger
from tidemill.ledger.ledger import Ledger
from tidemill.project.project import Project


def test_cron_ticks_once_and_catches_up_once(shop: Project, ledger: Ledger) -> None:
    clock = VirtualClock(NOON + timedelta(minutes=30))
    triggers = make_triggers(shop, ledger, clock, HOURLY)
    assert triggers.fire() == []
    assert triggers.next_tick() == NOON + timedelta(hours=1)
    clock.advance(NOON + timedelta(hours=1))
    assert len(triggers.fire()) == 1
    assert triggers.fire() == []
    clock.advance(NOON + timedelta(hours=4, minutes=5))  # three ticks were missed
    assert [job.dedupe_key for job in triggers.fire()] == [f"{(NOON + timedelta(hours=4)).isoformat()}/shop"]


def test_a_clock_set_back_fires_nothing_again(shop: Project, ledger: Ledger) -> None:
    later = VirtualClock(NOON)
    triggers = make_triggers(shop, ledger, later, HOURLY)
    later.advance(NOON + timedelta(hours=2))
    triggers.fire()
    earlier = VirtualClock(NOON + timedelta(hours=1, minutes=10))
    assert make_triggers(shop, ledger, earlier, HOURLY).fire() == []


DAILY = Trigger(name="daily", cron="30 8 * * *", zone="Europe/Zurich", pipeline="watching")


def test_a_cron_uses_its_time_zone(shop: Project, ledger: Ledger) -> None:
    clock = VirtualClock(datetime(2026, 3, 27, 12, tzinfo=UTC))
    triggers = make_triggers(shop, ledger, clock, DAILY)
    ticks = []
    for _ in range(3):
        tick = triggers.next_tick()
        assert tick is not None
        clock.advance(tick)
        triggers.fire()
        ticks.append(tick.strftime("%d %H:%M"))
    assert ticks == ["28 07:30", "29 06:30", "30 06:30"], "summer time begins on the 29th"


@pytest.mark.parametrize(
    ("cron", "ticks"),
    [
        ("30 2 * * *", ["24 02:30+0200", "25 02:30+0200", "26 02:30+0100"]),  # the clocks show 02:30 twice on the 25th
        ("0 */12 * * *", ["24 12:00+0200", "25 00:00+0200", "25 12:00+0100", "26 00:00+0100", "26 12:00+0100"]),
    ],
)
def test_a_time_that_the_clocks_show_twice_comes_once(
    shop: Project, ledger: Ledger, cron: str, ticks: list[str]
) -> None:
    clock = VirtualClock(datetime(2026, 10, 23, 23, tzinfo=UTC))
    zone = ZoneInfo("Europe/Berlin")
    triggers = make_triggers(shop, ledger, clock, Trigger(name="t", cron=cron, zone=zone.key, pipeline="watching"))
    while clock.now() < datetime(2026, 10, 26, 12, tzinfo=UTC):
        clock.advance(clock.now() + timedelta(minutes=30))
        triggers.fire()
    keys = [datetime.fromisoformat(job.dedupe_key.partition("/")[0]) for job in ledger.jobs.find(trigger="t")]
    assert [key.astimezone(zone).strftime("%d %H:%M%z") for key in keys] == ticks


def test_every_hour_comes_also_when_the_clocks_are_set_back(shop: Project, ledger: Ledger) -> None:
    clock = VirtualClock(datetime(2026, 10, 24, 23, 30, tzinfo=UTC))
    triggers = make_triggers(shop, ledger, clock, replace(HOURLY, cron="0 * * * *", zone="Europe/Berlin"))
    for _ in range(4):
        clock.advance(clock.now() + timedelta(hours=1))
        triggers.fire()
    assert _hours(ledger, "waiting") == [0, 1, 2, 3], "in UTC"


@pytest.mark.parametrize(
    ("catch_up", "fired", "dropped"), [("last", [15], []), ("all", [13, 14, 15], []), ("none", [], [15])]
)
def test_ticks_that_were_missed_fire_by_catch_up(
    shop: Project, ledger: Ledger, catch_up: CatchUp, fired: list[int], dropped: list[int]
) -> None:
    clock = VirtualClock(NOON)
    triggers = make_triggers(shop, ledger, clock, replace(HOURLY, catch_up=catch_up))
    triggers.fire()
    clock.advance(NOON + timedelta(hours=3, minutes=20))
    triggers.fire()
    assert triggers.fire() == []
    assert _hours(ledger, "waiting") == fired
    assert _hours(ledger, "dropped") == dropped
    clock.advance(NOON + timedelta(hours=4))
    triggers.fire()
    assert _hours(ledger, "waiting") == [*fired, 16], "later ticks fire"


def _hours(ledger: Ledger, state: str) -> list[int]:
    return [datetime.fromisoformat(job.dedupe_key.partition("/")[0]).hour for job in ledger.jobs.find(state=state)]


def test_a_clock_set_back_an_hour_fires_nothing_again_and_continues(shop: Project, ledger: Ledger) -> None:
    every = replace(HOURLY, cron="*/10 * * * *", catch_up="all")
    visit = Trigger(name="visit", on="visit", pipeline="watching", budget=1000)
    clock = SettableClock(NOON)
    triggers = make_triggers(shop, ledger, clock, every, visit)
    for minute in [*range(0, 125, 5), *range(65, 240, 5)]:  # at 14:00 it is 13:05 again
        clock.set(NOON + timedelta(minutes=minute))
        triggers.emit("visit", "somebody", f"{len(ledger.events.find())}", clock.now(), {})
        triggers.fire()
    keys = [job.dedupe_key for job in ledger.jobs.find(trigger="hourly")]
    ticks = [NOON + timedelta(minutes=minute) for minute in range(10, 240, 10)]
    assert sorted(keys) == [f"{tick.isoformat()}/shop" for tick in ticks]
    assert len(ledger.jobs.find(trigger="visit")) == len(ledger.events.find())


def test_a_clock_that_was_a_year_ahead_prevents_no_job(shop: Project, ledger: Ledger) -> None:
    clock = SettableClock(NOON + timedelta(days=365))
    triggers = make_triggers(shop, ledger, clock, HOURLY, RETRAIN)
    clock.set(clock.now() + timedelta(hours=2))
    triggers.emit("verdict", "shop/1", "then", clock.now(), {"action": "retrain", "model": "shop"})
    assert len(triggers.fire()) == 2
    for hour in (0, 1, 2):
        clock.set(NOON + timedelta(hours=hour))
        triggers.fire()
    triggers.emit("verdict", "shop/1", "now", clock.now(), {"action": "retrain", "model": "shop"})
    triggers.fire()
    assert [job.dedupe_key for job in ledger.jobs.find(trigger="retrain")] == ["now", "then"]
    assert [job.created.year for job in ledger.jobs.find(trigger="hourly")] == [2026, 2026, 2027]
