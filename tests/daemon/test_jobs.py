"""Jobs: a daemon that died leaves them to the next one; a failing one delays no other."""

from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.daemon.test_up import until
from tests.projects import make_project
from tidemill.core.policy import Retention
from tidemill.daemon import main as daemon_main
from tidemill.daemon.compose import open_session
from tidemill.daemon.main import Daemon
from tidemill.daemon.triggers import Triggers
from tidemill.flow.session import Session
from tidemill.testing.journal import rows


@pytest.fixture
def shop(tmp_path: Path) -> Session:
    session = open_session(make_project(tmp_path / "shop"))
    session.project.policy = replace(session.project.policy, triggers=())
    return session


def test_a_job_of_a_dead_daemon_waits_again_but_not_for_ever(shop: Session) -> None:
    triggers = Triggers(shop.project.policy, shop.workspace.ledger, shop.clock, "production")
    job = triggers.by_hand("watching", "shop", {}, "once")
    jobs = shop.workspace.ledger.jobs
    for attempts, state in ((1, "waiting"), (2, "waiting"), (3, "failed")):
        jobs.change(job.id, lambda j, a=attempts: replace(j, state="running", attempts=a))  # type: ignore[misc]
        Daemon(shop, lambda _: None).recover()
        assert jobs.get(job.id).state == state


def test_a_failing_job_delays_no_other(shop: Session) -> None:
    told: list[str] = []
    triggers = Triggers(shop.project.policy, shop.workspace.ledger, shop.clock, "production")
    bad = triggers.by_hand("no-such-pipeline", "", {}, "bad")
    good = triggers.by_hand("watching", "", {}, "good")
    daemon = Daemon(shop, told.append)
    jobs = shop.workspace.ledger.jobs

    def settled() -> bool:
        daemon.turn()
        return {jobs.get(bad.id).state, jobs.get(good.id).state} == {"failed", "done"}

    until(settled)
    assert "defines no pipeline" in jobs.get(bad.id).error
    assert jobs.get(good.id).run


def test_the_daemon_keeps_the_journal_small_and_no_longer_than_told(
    shop: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_main, "_TIDY", 0.0)
    shop.project.policy = replace(shop.project.policy, retention=Retention(journal="400d"))
    journal, now = shop.workspace.journal, shop.clock.now()
    for days in (500, 401, *range(40)):
        journal.append("labels/shop", rows(now - timedelta(days=days), value=[days]))
    told: list[str] = []
    Daemon(shop, told.append).turn()
    assert sorted(journal.read("labels/shop")["value"]) == list(range(40))
    assert len(list(shop.workspace.root.rglob("*.arrow"))) == 1
    assert told == ["2 rows of the journal labels/shop were forgotten, as [retention] says"]
