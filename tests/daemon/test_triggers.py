"""Triggers: each cause fires once, whatever happens in between."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.projects import make_project
from tidemill.clock import VirtualClock
from tidemill.core.trigger import Trigger
from tidemill.daemon.triggers import Triggers
from tidemill.project.project import Project
from tidemill.store.ledger import Ledger

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def shop(tmp_path: Path) -> Project:
    return make_project(tmp_path / "shop")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


def made(project: Project, ledger: Ledger, clock: VirtualClock, *triggers: Trigger) -> Triggers:
    return Triggers(replace(project.policy, triggers=triggers), ledger, clock, "production")


RETRAIN = Trigger(name="retrain", on="verdict", where={"action": "retrain"}, pipeline="training", cooldown="1d")
HOURLY = Trigger(name="hourly", cron="0 * * * *", pipeline="watching")


def test_an_event_fires_once_also_for_a_second_daemon(shop: Project, ledger: Ledger) -> None:
    clock = VirtualClock(NOON)
    first, second = made(shop, ledger, clock, RETRAIN), made(shop, ledger, clock, RETRAIN)
    first.tell("verdict", "shop/1", "verdict/1", clock.now(), {"action": "retrain", "model": "shop"})
    assert [job.pipeline for job in first.fire()] == ["training"]
    assert first.fire() == []
    assert second.fire() == []
    assert len(ledger.jobs.find()) == 1


def test_an_event_is_told_once(shop: Project, ledger: Ledger) -> None:
    triggers = made(shop, ledger, VirtualClock(NOON))
    assert triggers.tell("data", "rows", "data/1", NOON, {})
    assert not triggers.tell("data", "rows", "data/1", NOON, {})


def test_other_events_do_not_fire(shop: Project, ledger: Ledger) -> None:
    triggers = made(shop, ledger, VirtualClock(NOON), RETRAIN)
    triggers.tell("verdict", "shop/1", "a", NOON, {"action": "ignore", "model": "shop"})
    triggers.tell("data", "rows", "b", NOON, {"action": "retrain"})
    assert triggers.fire() == []


def test_a_cooldown_holds_back(shop: Project, ledger: Ledger) -> None:
    clock = VirtualClock(NOON)
    triggers = made(shop, ledger, clock, RETRAIN)
    fired = []
    for hours in range(0, 60, 6):
        clock.advance(NOON + timedelta(hours=hours))
        triggers.tell("verdict", "shop/1", f"v{hours}", clock.now(), {"action": "retrain", "model": "shop"})
        fired += [hours for _ in triggers.fire()]
    assert fired == [0, 24, 48]


def test_new_data_waits_for_the_cooldown_and_is_not_lost(shop: Project, ledger: Ledger) -> None:
    clock = VirtualClock(NOON)
    arrival = Trigger(name="arrival", on="data", pipeline="training", model="shop", cooldown="1h")
    triggers = made(shop, ledger, clock, arrival)
    for number in range(4):
        clock.advance(NOON + timedelta(minutes=10 * number))
        triggers.tell("data", "rows", f"data/{number}", clock.now(), {})
        triggers.fire()
        for job in ledger.jobs.find(state="waiting"):
            if job.available <= clock.now():
                ledger.jobs.change(job.id, lambda j: replace(j, state="done"))
    waiting = ledger.jobs.find(state="waiting")
    assert [job.available for job in waiting] == [NOON + timedelta(hours=1)]


def test_a_budget_bounds_a_day(shop: Project, ledger: Ledger) -> None:
    clock = VirtualClock(NOON)
    triggers = made(shop, ledger, clock, replace(RETRAIN, cooldown="0s", budget=3))
    for number in range(10):
        clock.sleep(60)
        triggers.tell("verdict", "shop/1", f"v{number}", clock.now(), {"action": "retrain", "model": "shop"})
        triggers.fire()
    assert len(ledger.jobs.find(trigger="retrain", state="waiting")) == 3
    assert {job.error for job in ledger.jobs.find(state="dropped")} == {"its budget (3 a day) is spent"}


def test_cron_ticks_once_and_catches_up_once(shop: Project, ledger: Ledger) -> None:
    clock = VirtualClock(NOON + timedelta(minutes=30))
    triggers = made(shop, ledger, clock, HOURLY)
    assert triggers.fire() == []
    assert triggers.next_tick() == NOON + timedelta(hours=1)
    clock.advance(NOON + timedelta(hours=1))
    assert len(triggers.fire()) == 1
    assert triggers.fire() == []
    clock.advance(NOON + timedelta(hours=4, minutes=5))  # slept through three
    assert [job.dedupe_key for job in triggers.fire()] == [f"{(NOON + timedelta(hours=4)).isoformat()}/shop"]


def test_a_clock_set_back_fires_nothing_twice(shop: Project, ledger: Ledger) -> None:
    later = VirtualClock(NOON)
    triggers = made(shop, ledger, later, HOURLY)
    later.advance(NOON + timedelta(hours=2))
    triggers.fire()
    earlier = VirtualClock(NOON + timedelta(hours=1, minutes=10))
    assert made(shop, ledger, earlier, HOURLY).fire() == []


def test_new_files_are_noticed_once(shop: Project, ledger: Ledger) -> None:
    from tidemill.clock import SystemClock
    from tidemill.data.source import FileSources

    triggers = Triggers(shop.policy, ledger, SystemClock(), "production")
    sources = FileSources(shop.folder, shop.policy.sources)
    assert triggers.notice(sources) == 1
    assert triggers.notice(sources) == 0
    (shop.folder / "data" / "shop.csv").touch()
    assert triggers.notice(sources) == 1
