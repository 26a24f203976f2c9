"""Jobs: a daemon that died leaves them to the next one; a failing one delays no other."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.daemon.kit import Ended
from tests.daemon.test_up import until
from tests.projects import make_project
from tidemill.compose.session import open_session
from tidemill.core.policy import Retention
from tidemill.core.trigger import Job
from tidemill.daemon import daemon as daemon_room
from tidemill.daemon.daemon import Daemon
from tidemill.daemon.triggers import Triggers
from tidemill.flow.session import Session
from tidemill.project.configuration import read_policy
from tidemill.testing.journal import rows


@pytest.fixture
def shop(tmp_path: Path) -> Session:
    session = open_session(make_project(tmp_path / "shop"))
    session.project.policy = replace(session.project.policy, triggers=())
    return session


def asked(shop: Session, pipeline: str = "watching") -> Job:
    triggers = Triggers(shop.project.policy, shop.workspace.ledger, shop.clock, "production")
    return triggers.create_manual_job(pipeline, "shop", {}, shop.clock.mint())


def test_a_job_that_kills_its_worker_three_times_fails_and_is_told(shop: Session) -> None:
    job, jobs, told = asked(shop), shop.workspace.ledger.jobs, list[str]()
    daemon = Daemon(shop, told.append, lambda *_: Ended(-9))
    runs = set()
    while jobs.get(job.id).state in ("waiting", "running"):
        daemon.turn()
        runs.add(jobs.get(job.id).run)
        jobs.change(job.id, lambda j: replace(j, available=j.created))
    failed = jobs.get(job.id)
    assert (failed.state, failed.deaths, failed.attempts) == ("failed", 3, 3)
    assert len(runs - {""}) == 1, "each try is the same run"
    (event,) = shop.workspace.ledger.events.find(kind="job")
    assert event.payload["reason"] == "its process died 3 times"
    (alert,) = shop.workspace.ledger.events.find(kind="alert")
    assert "its process died 3 times" in alert.payload["reason"]


def test_a_daemon_waits_for_a_run_that_has_outlived_the_daemon_before(shop: Session, tmp_path: Path) -> None:
    job, books = asked(shop), shop.workspace.ledger
    first = Daemon(shop, lambda _: None, lambda *_: Ended(-9))
    first._start()
    claimed = books.jobs.get(job.id)
    # The worker of a daemon that is gone is still at work: only its process can say so.
    at_work = subprocess.Popen(
        [sys.executable, "-c", _HOLDS, str(shop.workspace.root), claimed.run], stdout=subprocess.PIPE
    )
    assert at_work.stdout is not None
    assert at_work.stdout.readline() == b"held\n"
    begun: list[str] = []
    second = Daemon(shop, lambda _: None, lambda _, job: begun.append(job.run) or Ended(0))  # type: ignore[func-returns-value]
    second.turn()
    assert begun == []
    assert books.jobs.get(job.id).state == "running"
    at_work.kill()
    at_work.wait()
    second.turn()
    assert begun == [claimed.run], "it had not begun: now it does, as the same run"


_HOLDS = """
import sys, time
from pathlib import Path
from tidemill.workspace.run_locks import RunLocks
with RunLocks(Path(sys.argv[1]) / "runs").lock(sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_job_at_a_time_works_on_a_model_also_where_it_names_none(shop: Session) -> None:
    triggers = Triggers(shop.project.policy, shop.workspace.ledger, shop.clock, "production")
    for key in ("one", "two"):
        triggers.create_manual_job("watching", "", {}, key)
    Daemon(shop, lambda _: None, lambda *_: Ended(-9))._start()
    assert len(shop.workspace.ledger.jobs.find(state="running")) == 1


def test_a_process_may_say_more_than_a_pipe_holds(shop: Session) -> None:
    code = "from tidemill import pipeline, step\nimport sys\n"
    code += "@step(cache=False)\ndef shout() -> str:\n    sys.stderr.write('x' * 300_000)\n    return 'hoarse'\n"
    code += "@pipeline\ndef loud() -> None:\n    shout()\n"
    with (shop.project.folder / "pipeline.py").open("a") as file:
        file.write(code)
    job = asked(shop, "loud")
    daemon = Daemon(shop, lambda _: None)
    until(lambda: daemon.turn() or shop.workspace.ledger.jobs.get(job.id).state == "done")  # type: ignore[func-returns-value]


def test_a_failing_job_delays_no_other(shop: Session) -> None:
    told: list[str] = []
    triggers = Triggers(shop.project.policy, shop.workspace.ledger, shop.clock, "production")
    bad = triggers.create_manual_job("no-such-pipeline", "", {}, "bad")
    good = triggers.create_manual_job("watching", "", {}, "good")
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
    monkeypatch.setattr(daemon_room, "_TIDY", 0.0)
    shop.project.policy = replace(shop.project.policy, retention=Retention(journal="400d"))
    journal, now = shop.workspace.journal, shop.clock.now()
    for days in (500, 401, *range(40)):
        journal.append("labels/shop", rows(now - timedelta(days=days), value=[days]))
    told: list[str] = []
    Daemon(shop, told.append).turn()
    assert sorted(journal.read("labels/shop")["value"]) == list(range(40))
    assert len(list(shop.workspace.root.rglob("*.arrow"))) == 1
    assert told == ["2 rows of the journal labels/shop were forgotten, as [retention] says"]


def test_a_policy_that_changes_meanwhile_is_told_once(shop: Session) -> None:
    file = shop.project.folder / "tidemill.toml"
    shop.project.policy = read_policy(file)
    told: list[str] = []
    daemon = Daemon(shop, told.append, lambda *_: Ended(2))

    def turned() -> list[str]:
        told.clear()
        daemon.turn()
        daemon.turn()
        return [line for line in told if "triggers go on by what it said before" in line]

    assert turned() == []
    text = file.read_text()
    file.write_text(text + "# a remark\n")
    assert turned() == [], "it says the same"
    file.write_text(text.replace("share = 0.2", "share = 0.25"))
    (said,) = turned()
    assert "tidemill.toml has changed" in said
    file.write_text(text.replace("share = 0.2", "share = 2.0"))
    (said,) = turned()
    assert "line" in said
