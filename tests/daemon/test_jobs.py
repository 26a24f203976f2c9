"""Jobs: the next daemon continues with the jobs of one that died; a failing job delays no other."""

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.daemon.kit import FinishedWorker
from tests.daemon.test_up import until
from tests.projects import make_project
from tidemill.compose.session import open_session
from tidemill.core.policy import Retention
from tidemill.core.trigger import Job
from tidemill.daemon import daemon as daemon_module
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


def request_job(shop: Session, pipeline: str = "watching") -> Job:
    triggers = Triggers(shop.project.policy, shop.workspace.ledger, shop.clock, "production")
    return triggers.create_manual_job(pipeline, "shop", {}, shop.clock.mint())


def test_a_job_whose_process_dies_three_times_fails_and_is_reported(shop: Session) -> None:
    job, jobs = request_job(shop), shop.workspace.ledger.jobs
    daemon = Daemon(shop, lambda _: None, lambda *_: FinishedWorker(-9))
    runs = set()
    while jobs.get(job.id).state in ("waiting", "running"):
        daemon.run_once()
        runs.add(jobs.get(job.id).run)
        jobs.change(job.id, lambda current: replace(current, available=current.created))
    failed = jobs.get(job.id)
    assert (failed.state, failed.deaths, failed.attempts) == ("failed", 3, 3)
    assert len(runs - {""}) == 1, "each try is the same run"
    (event,) = shop.workspace.ledger.events.find(kind="job")
    assert event.payload["reason"] == "its process died 3 times"
    (alert,) = shop.workspace.ledger.events.find(kind="alert")
    assert "its process died 3 times" in alert.payload["reason"]


def test_a_daemon_waits_for_a_run_that_an_earlier_daemon_started(shop: Session, tmp_path: Path) -> None:
    job, books = request_job(shop), shop.workspace.ledger
    first = Daemon(shop, lambda _: None, lambda *_: FinishedWorker(-9))
    first._start_jobs()
    claimed = books.jobs.get(job.id)
    # The worker of an earlier daemon is still running: only its process shows it.
    worker = subprocess.Popen(
        [sys.executable, "-c", _LOCK_RUN, str(shop.workspace.root), claimed.run], stdout=subprocess.PIPE
    )
    assert worker.stdout is not None
    assert worker.stdout.readline() == b"locked\n"
    started: list[str] = []
    second = Daemon(shop, lambda _: None, lambda _, job: started.append(job.run) or FinishedWorker(0))  # type: ignore[func-returns-value]
    second.run_once()
    assert started == []
    assert books.jobs.get(job.id).state == "running"
    worker.kill()
    worker.wait()
    second.run_once()
    assert started == [claimed.run], "the new worker starts the same run"


_LOCK_RUN = """
import sys, time
from pathlib import Path
from tidemill.workspace.run_locks import RunLocks
with RunLocks(Path(sys.argv[1]) / "runs").lock(sys.argv[2]):
    print("locked", flush=True)
    time.sleep(60)
"""


def test_jobs_of_the_only_model_run_one_after_another(shop: Session) -> None:
    triggers = Triggers(shop.project.policy, shop.workspace.ledger, shop.clock, "production")
    for key in ("one", "two"):
        triggers.create_manual_job("watching", "", {}, key)
    Daemon(shop, lambda _: None, lambda *_: FinishedWorker(-9))._start_jobs()
    assert len(shop.workspace.ledger.jobs.find(state="running")) == 1


def test_a_process_may_write_more_than_a_pipe_can_contain(shop: Session) -> None:
    code = "from tidemill import pipeline, step\nimport sys\n"
    code += "@step(cache=False)\ndef shout() -> str:\n    sys.stderr.write('x' * 300_000)\n    return 'hoarse'\n"
    code += "@pipeline\ndef loud() -> None:\n    shout()\n"
    with (shop.project.folder / "pipeline.py").open("a") as file:
        file.write(code)
    job = request_job(shop, "loud")
    daemon = Daemon(shop, lambda _: None)
    until(lambda: daemon.run_once() or shop.workspace.ledger.jobs.get(job.id).state == "done")  # type: ignore[func-returns-value]


def test_a_failing_job_delays_no_other(shop: Session) -> None:
    triggers = Triggers(shop.project.policy, shop.workspace.ledger, shop.clock, "production")
    bad = triggers.create_manual_job("no-such-pipeline", "", {}, "bad")
    good = triggers.create_manual_job("watching", "", {}, "good")
    daemon = Daemon(shop, lambda _: None)
    jobs = shop.workspace.ledger.jobs

    def settled() -> bool:
        daemon.run_once()
        return {jobs.get(bad.id).state, jobs.get(good.id).state} == {"failed", "done"}

    until(settled)
    assert "defines no pipeline" in jobs.get(bad.id).error
    assert jobs.get(good.id).run


def test_the_daemon_tidies_the_journal_by_its_retention(shop: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_module, "_TIDY_SECONDS", 0.0)
    shop.project.policy = replace(shop.project.policy, retention=Retention(journal="400d"))
    journal, now = shop.workspace.journal, shop.clock.now()
    for days in (500, 401, *range(40)):
        journal.append("labels/shop", rows(now - timedelta(days=days), value=[days]))
    messages: list[str] = []
    Daemon(shop, messages.append).run_once()
    assert sorted(journal.read("labels/shop")["value"]) == list(range(40))
    assert len(list(shop.workspace.root.rglob("*.arrow"))) == 1
    assert messages == ["deleted 2 rows of the journal labels/shop: they are older than [retention] allows"]


def test_a_changed_policy_is_reported_once(shop: Session) -> None:
    file = shop.project.folder / "tidemill.toml"
    shop.project.policy = read_policy(file)
    messages: list[str] = []
    daemon = Daemon(shop, messages.append, lambda *_: FinishedWorker(2))

    def run_rounds() -> list[str]:
        messages.clear()
        daemon.run_once()
        daemon.run_once()
        return [line for line in messages if "triggers still use the previous version" in line]

    assert run_rounds() == []
    text = file.read_text()
    file.write_text(text + "# a remark\n")
    assert run_rounds() == [], "the policy is the same"
    file.write_text(text.replace("share = 0.2", "share = 0.25"))
    (message,) = run_rounds()
    assert "tidemill.toml has changed" in message
    file.write_text(text.replace("share = 0.2", "share = 2.0"))
    (message,) = run_rounds()
    assert "line" in message
