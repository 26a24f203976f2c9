"""A ledger that becomes unavailable, two daemons on one ledger, and a daemon without a heartbeat."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from msgspec.structs import replace

from tests.daemon.kit import kit, run_in_place
from tests.daemon.test_up import until
from tidemill.clock import VirtualClock
from tidemill.core.route import Arm, Route
from tidemill.daemon.daemon import Daemon
from tidemill.daemon.lease import Lease
from tidemill.daemon.listening import Listener
from tidemill.daemon.main import watch
from tidemill.daemon.triggers import Triggers
from tidemill.errors import TidemillError
from tidemill.evidence.daemon_status import read_daemon_status
from tidemill.flow.session import Session
from tidemill.ledger.database import open_database
from tidemill.ledger.ledger import Ledger


class WatchedDaemon:
    """A daemon in a thread, with its messages and the number of its rounds."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.rounds = 0

    def make(self, session: Session, _: object) -> Daemon:
        return Daemon(session, self.messages.append, run_in_place)

    def wait_for_rounds(self, times: int = 3) -> bool:
        """Wait until the daemon has run a number of rounds."""
        before = self.rounds
        return bool(until(lambda: self.rounds >= before + times))


@contextmanager
def watching(session: Session) -> Iterator[WatchedDaemon]:
    seen, stop = WatchedDaemon(), threading.Event()

    class CountingEvent(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            seen.rounds += 1
            return stop.wait(timeout)

        def is_set(self) -> bool:
            return stop.is_set()

    thread = threading.Thread(target=watch, args=(session, CountingEvent(), seen.messages.append, seen.make, 0.02))
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join(60)
        assert not thread.is_alive()


def visit(session: Session, ledger: Ledger, key: str) -> None:
    triggers = Triggers(session.project.policy, ledger, session.clock, "test")
    triggers.emit("visit", "somebody", key, session.clock.now(), {})


def list_done(ledger: Ledger) -> list[str]:
    return sorted(job.dedupe_key for job in ledger.jobs.find(state="done"))


def test_a_missing_ledger_is_reported_once_and_used_again_when_it_is_back(tmp_path: Path) -> None:
    session = kit(tmp_path / "kit")
    file = session.workspace.root / "ledger.db"
    ledger = Ledger(session.workspace.database)
    with watching(session) as seen:
        visit(session, ledger, "one")
        until(lambda: list_done(ledger) == ["one"])
        file.rename(tmp_path / "aside.db")
        until(lambda: any("is missing" in line for line in seen.messages))
        assert seen.wait_for_rounds()
        assert sum("is missing" in line for line in seen.messages) == 1
        (tmp_path / "aside.db").rename(file)
        until(lambda: any("recovered" in line for line in seen.messages))
        visit(session, ledger, "two")
        until(lambda: list_done(ledger) == ["one", "two"])


def test_the_daemon_continues_with_a_replaced_ledger(tmp_path: Path) -> None:
    session = kit(tmp_path / "kit")
    with watching(session) as seen:
        until(lambda: "the daemon is running: triggers fire" in seen.messages)
        other = kit(tmp_path / "other")
        visit(other, other.workspace.ledger, "restored")
        other.workspace.ledger.close()
        root = session.workspace.root
        for rest in root.glob("ledger.db-*"):
            rest.unlink()
        (other.workspace.root / "ledger.db").rename(root / "ledger.db")
        until(lambda: any("was replaced" in line for line in seen.messages))
        until(lambda: list_done(session.workspace.ledger) == ["restored"])


@contextmanager
def refuse_connections(url: str) -> Iterator[None]:
    """Close all connections to a database and accept no new one, as if the server were stopped."""
    plain = url.replace("+psycopg", "")
    name = plain.rpartition("/")[2]
    with psycopg.connect(plain.removesuffix(name) + "postgres", autocommit=True) as server:
        server.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false'.encode())
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        try:
            yield
        finally:
            server.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true'.encode())


def test_a_server_that_stops_and_starts_is_reported_once_each(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMILL_LEDGER", postgres_url)
    session = kit(tmp_path / "kit")
    with watching(session) as seen:
        visit(session, Ledger(postgres_url), "one")
        until(lambda: list_done(Ledger(postgres_url)) == ["one"])
        with refuse_connections(postgres_url):
            until(lambda: any(line.startswith("daemon: ledger: the ledger at 127.0.0.1") for line in seen.messages))
            assert seen.wait_for_rounds(10)
        until(lambda: any("ledger: recovered" in line for line in seen.messages))
        visit(session, Ledger(postgres_url), "two")
        until(lambda: list_done(Ledger(postgres_url)) == ["one", "two"])
    assert sum(line.startswith("daemon: ledger: the ledger at") for line in seen.messages) <= 2
    assert not any("Traceback" in line for line in seen.messages)


_ACQUIRE = """
import sys, time
from pathlib import Path
from tidemill.daemon.lease import Lease
from tidemill.ledger.database import open_database
lease = Lease(Path(sys.argv[1]), open_database(sys.argv[2]), "test")
assert lease.acquire()
print("acquired", flush=True)
time.sleep(60)
"""


def test_two_workspaces_on_one_ledger_are_one_environment(tmp_path: Path, postgres_url: str) -> None:
    mine = Lease(tmp_path / "mine", open_database(postgres_url), "test")
    other = Lease(tmp_path / "other", open_database(postgres_url), "production")
    words = [sys.executable, "-c", _ACQUIRE, str(tmp_path / "theirs"), postgres_url]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"acquired\n"
    assert not mine.acquire()
    assert other.acquire(), "the lease of another environment is free"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    until(mine.acquire)
    third = Lease(tmp_path / "third", open_database(postgres_url), "test")
    assert not third.acquire()
    with refuse_connections(postgres_url), pytest.raises(TidemillError, match="cannot be reached"):
        mine.acquire()
    assert third.acquire(), "the server has lost the lock of the first"
    assert not mine.acquire()
    third.release()
    assert mine.acquire()
    mine.release()
    other.release()


WATCHED = """
[problem]
decision = "d"
source = "rows"
label = "late"

[watch]
notify = ["log"]
"""


def test_the_service_reports_a_missing_heartbeat_and_its_return(tmp_path: Path) -> None:
    session = kit(tmp_path / "kit", WATCHED)
    books, clock = session.workspace.ledger, session.clock
    listener = Listener(session)
    assert listener.check() is None, "there was no daemon"
    daemon = Daemon(session, lambda _: None, run_in_place)
    daemon.run_once()
    status = listener.check()
    assert status is not None
    assert status.state == "watching"
    later = read_daemon_status(books, "test", clock.now() + timedelta(minutes=2))
    assert later is not None
    assert later.state == "silent"
    assert "has sent no heartbeat since" in str(later)
    (event,) = books.events.find(kind="daemon")
    _set_last_beat(session, event.id, minutes=-3)
    for _ in range(3):
        assert (status := listener.check()) is not None
        assert status.state == "silent"
    assert [alert.payload["state"] for alert in books.events.find(kind="alert")] == ["bad"]
    _set_last_beat(session, event.id, minutes=0)
    listener.check()
    listener.check()
    assert [alert.payload["state"] for alert in books.events.find(kind="alert")] == ["bad", "well"]
    daemon.stop()
    assert (status := listener.check()) is not None
    assert status.state == "ended"


def _set_last_beat(session: Session, event: str, minutes: int) -> None:
    at = session.clock.now() + timedelta(minutes=minutes)
    session.workspace.ledger.events.change(event, lambda beat: replace(beat, known_at=at))


def test_a_daemon_continues_where_the_last_one_stopped(tmp_path: Path) -> None:
    session = kit(tmp_path / "kit")
    first = Daemon(session, lambda _: None, run_in_place)
    first.run_once()
    first.stop()
    event = session.workspace.ledger.events.find(kind="daemon")[0]
    last_check = (session.clock.now() - timedelta(hours=5)).isoformat()
    session.workspace.ledger.events.change(
        event.id, lambda beat: replace(beat, payload=beat.payload | {"looked": last_check})
    )
    _visit_hours_ago(session, "without a daemon", hours=3)
    _visit_hours_ago(session, "long before", hours=9)
    second = Daemon(session, lambda _: None, run_in_place)
    second.run_once()
    second.run_once()
    assert list_done(session.workspace.ledger) == ["without a daemon"]


def _visit_hours_ago(session: Session, key: str, hours: int) -> None:
    clock = VirtualClock(session.clock.now() - timedelta(hours=hours))
    triggers = Triggers(session.project.policy, session.workspace.ledger, clock, "test")
    triggers.emit("visit", "somebody", key, clock.now(), {})


def test_a_route_that_was_written_but_not_published_is_published(tmp_path: Path) -> None:
    session = kit(tmp_path / "kit", WATCHED)
    arms = (Arm(release="kit/1", version=1, package="p", role="champion", share=1.0),)
    for version in (1, 2):
        session.workspace.ledger.routes.add(
            Route(
                id=session.clock.mint(),
                environment="test",
                model="kit",
                version=version,
                arms=arms,
                since=session.clock.now(),
                reason="",
            )
        )
    messages: list[str] = []
    Daemon(session, messages.append, run_in_place).run_once()
    assert session.workspace.board.routes()["kit"].version == 2
    assert messages == ["published route 2 of model kit, which was in the ledger but not in production"]
