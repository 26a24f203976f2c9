"""Faults of clocks, queues and records: each costs one job or one trigger, and the others go on."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.daemon.kit import FinishedWorker, kit
from tidemill.clock import VirtualClock
from tidemill.core.resources import BookReader
from tidemill.core.trigger import Job, Trigger
from tidemill.daemon.daemon import Daemon
from tidemill.daemon.readable import find_readable
from tidemill.daemon.ticks import find_latest, find_next, list_passed
from tidemill.daemon.triggers import Triggers
from tidemill.errors import ConfigurationError, Corrupt
from tidemill.flow.session import Session
from tidemill.ledger.ledger import Ledger
from tidemill.project.project import Project

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def session(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    if request.param == "postgresql":
        monkeypatch.setenv("TIDEMILL_LEDGER", request.getfixturevalue("postgres_url"))
    return kit(tmp_path / "project")


def damage(ledger: Ledger, table: str, identifier: str, body: str = '{"id": "') -> None:
    connections = ledger.jobs._connections
    with connections.transaction() as connection:
        statement = connections.database.statement(f"UPDATE {table} SET body = ? WHERE id = ?")
        assert connection.execute(statement, (body, identifier)).rowcount == 1


def make_triggers(session: Session) -> Triggers:
    return Triggers(session.project.policy, session.workspace.ledger, session.clock, "test")


def request_jobs(session: Session, count: int) -> list[Job]:
    triggers = make_triggers(session)
    return [triggers.create_manual_job("noting", "", {}, f"{number}") for number in range(count)]


def test_a_damaged_job_costs_one_job_and_is_named(session: Session) -> None:
    books = session.workspace.ledger
    jobs = request_jobs(session, 4)
    damage(books, "jobs", jobs[1].id)
    damage(books, "jobs", jobs[2].id, '{"id": "x", "state": 7}')
    said: list[str] = []
    started: list[str] = []

    def start(_: Session, job: Job) -> FinishedWorker:
        started.append(job.id)
        return FinishedWorker(2)

    daemon = Daemon(session, said.append, start)
    for _ in range(3):
        daemon.run_once()
    assert started == [jobs[0].id, jobs[3].id]
    for job in jobs[1:3]:
        (line,) = (line for line in said if job.id in line)
        assert "cannot be read" in line
        assert "tidemill restore" in line
    with pytest.raises(Corrupt, match=jobs[1].id):
        books.jobs.find(state="waiting")
    with pytest.raises(Corrupt, match=jobs[1].id):
        books.jobs.get(jobs[1].id)


def test_a_damaged_running_job_and_a_damaged_event_stop_no_trigger(session: Session) -> None:
    books = session.workspace.ledger
    (job,) = request_jobs(session, 1)
    books.jobs.change(job.id, lambda current: replace(current, state="running"))
    damage(books, "jobs", job.id)
    said: list[str] = []
    daemon = Daemon(session, said.append, lambda *_: FinishedWorker(2))
    triggers = daemon._triggers
    for number in range(3):
        triggers.emit("visit", f"{number}", f"{number}", session.clock.now(), {})
    damage(books, "events", books.events.find(subject="1")[0].id)
    daemon.run_once()
    visits = [found.dedupe_key for found in find_readable(books.jobs, said.append, trigger="visit")]
    assert visits == ["0", "2"]
    assert sum(job.id in line for line in said) == 1


def test_the_readable_records_are_those_of_find(session: Session) -> None:
    books = session.workspace.ledger
    jobs = request_jobs(session, 6)
    damage(books, "jobs", jobs[3].id)
    readable: BookReader[Job] = books.jobs

    def list_ids(**options: object) -> list[str]:
        return [job.id for job in find_readable(readable, lambda _: None, **options)]  # type: ignore[arg-type]

    ids = [job.id for job in jobs if job is not jobs[3]]
    assert list_ids(state="waiting") == ids
    assert list_ids(state="waiting", newest=True, limit=3) == ids[::-1][:3]
    assert list_ids(after=jobs[1].id, before=jobs[5].id) == [jobs[2].id, jobs[4].id]
    assert list_ids(state="done") == []


def test_a_queue_of_hundreds_of_causes_starts_each_job_once(tmp_path: Path) -> None:
    many = "".join(f'[[triggers]]\nname = "t{n}"\non = "visit"\npipeline = "noting"\n' for n in range(40))
    session = kit(tmp_path / "project", many)
    started: Counter[str] = Counter()

    def start(_: Session, job: Job) -> FinishedWorker:
        started[job.id] += 1
        return FinishedWorker(2)

    daemon = Daemon(session, lambda _: None, start)
    for number in range(10):
        daemon._triggers.emit("visit", "somebody", f"{number}", session.clock.now(), {})
    daemon._fire_triggers()
    jobs = session.workspace.ledger.jobs.find()
    assert len(jobs) == 400
    while session.workspace.ledger.jobs.find(state="waiting", limit=1):
        daemon._start_jobs()
        daemon._follow_jobs()
    assert started == Counter(job.id for job in jobs)


def test_a_job_that_was_written_while_the_clock_was_ahead_starts(tmp_path: Path) -> None:
    session = kit(tmp_path / "project")
    session.clock = VirtualClock(NOON + timedelta(days=365))
    (ahead,) = request_jobs(session, 1)
    session.clock = VirtualClock(NOON)
    (late,) = (make_triggers(session).create_manual_job("noting", "", {}, "late") for _ in range(1))
    books = session.workspace.ledger
    books.jobs.change(late.id, lambda job: replace(job, available=NOON + timedelta(days=40)))
    cooling = make_triggers(session).create_manual_job("noting", "", {}, "cooling")
    books.jobs.change(cooling.id, lambda job: replace(job, available=NOON + timedelta(hours=20)))
    started: list[str] = []
    daemon = Daemon(session, lambda _: None, lambda _, job: started.append(job.id) or FinishedWorker(2))  # type: ignore[func-returns-value]
    daemon._start_jobs()
    daemon._start_jobs()
    assert sorted(started) == sorted([ahead.id, late.id])


def test_a_cron_whose_years_have_passed_delays_no_other_trigger(tmp_path: Path) -> None:
    session = kit(tmp_path / "project")
    ended = Trigger(name="ended", cron="0 0 1 1 * 0 2027", pipeline="noting")
    hourly = Trigger(name="hourly", cron="0 * * * *", pipeline="noting")
    policy = replace(session.project.policy, triggers=(ended, hourly))
    clock = VirtualClock(NOON)
    triggers = Triggers(policy, session.workspace.ledger, clock, "test")
    fired: Counter[str] = Counter()
    for days in (0, 1, 320, 700):
        clock.advance(NOON + timedelta(days=days, hours=2))
        fired.update(job.trigger for job in triggers.fire())
    assert fired == {"hourly": 4, "ended": 1}
    assert triggers.next_tick() == NOON + timedelta(days=700, hours=3)
    assert find_next(ended, datetime(2027, 1, 2, tzinfo=UTC)) is None
    assert find_latest(ended, NOON) is None


def test_the_29th_of_february_comes_in_leap_years(tmp_path: Path) -> None:
    leap = Trigger(name="leap", cron="0 0 29 FEB *", pipeline="noting", catch_up="all")
    passed = list_passed(leap, datetime(2019, 1, 1, tzinfo=UTC), NOON)
    assert [tick.date().isoformat() for tick in passed] == ["2020-02-29", "2024-02-29"]
    assert find_next(leap, NOON) == datetime(2028, 2, 29, tzinfo=UTC)


@pytest.mark.parametrize("cron", ["every 0s", "R * * * *", "*/0 * * * *", "0 0 30 2 *", "@reboot", "0 25 * * *"])
def test_a_cron_without_times_is_refused(tmp_path: Path, cron: str) -> None:
    with pytest.raises(ConfigurationError, match="cron of trigger"):
        kit(tmp_path / "project", f'[[triggers]]\nname = "t"\ncron = "{cron}"\npipeline = "noting"\n')
    with pytest.raises(ConfigurationError):
        _ = Project(tmp_path / "project").policy


def test_a_trigger_whose_job_cannot_be_written_delays_no_other(tmp_path: Path) -> None:
    session = kit(tmp_path / "project")
    bad = Trigger(name="bad", on="visit", pipeline="noting", params={"value": object()})
    good = Trigger(name="good", on="visit", pipeline="noting")
    policy = replace(session.project.policy, triggers=(bad, good))
    triggers = Triggers(policy, session.workspace.ledger, session.clock, "test")
    triggers.emit("visit", "somebody", "1", session.clock.now(), {})
    for _ in range(2):
        with pytest.raises(Exception, match="jobs cannot be stored"):
            triggers.fire()
    assert [job.trigger for job in session.workspace.ledger.jobs.find()] == ["good"]
