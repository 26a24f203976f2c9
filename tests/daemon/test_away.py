"""A ledger that goes away while the daemon runs, two daemons on one ledger, and a daemon that falls silent."""

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

from tests.daemon.kit import in_place, kit
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


class Watching:
    """A daemon in a thread, what it told, and how often it has turned."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.turns = 0

    def make(self, session: Session, _: object) -> Daemon:
        return Daemon(session, self.told.append, in_place)

    def turned(self, times: int = 3) -> bool:
        """Whether it has turned so often since this was asked first."""
        before = self.turns
        return bool(until(lambda: self.turns >= before + times))


@contextmanager
def watching(session: Session) -> Iterator[Watching]:
    seen, ended = Watching(), threading.Event()

    class Counted(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            seen.turns += 1
            return ended.wait(timeout)

        def is_set(self) -> bool:
            return ended.is_set()

    thread = threading.Thread(target=watch, args=(session, Counted(), seen.told.append, seen.make, 0.02))
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join(60)
        assert not thread.is_alive()


def visit(session: Session, ledger: Ledger, key: str) -> None:
    triggers = Triggers(session.project.policy, ledger, session.clock, "test")
    triggers.tell("visit", "somebody", key, session.clock.now(), {})


def done(ledger: Ledger) -> list[str]:
    return sorted(job.dedupe_key for job in ledger.jobs.find(state="done"))


def test_a_ledger_that_is_moved_away_is_told_once_and_gone_on_with_when_it_is_back(tmp_path: Path) -> None:
    session = kit(tmp_path / "kit")
    file = session.workspace.root / "ledger.db"
    ledger = Ledger(session.workspace.database)
    with watching(session) as seen:
        visit(session, ledger, "one")
        until(lambda: done(ledger) == ["one"])
        file.rename(tmp_path / "aside.db")
        until(lambda: any("is gone" in line for line in seen.told))
        assert seen.turned()
        assert sum("is gone" in line for line in seen.told) == 1
        (tmp_path / "aside.db").rename(file)
        until(lambda: any("well again" in line for line in seen.told))
        visit(session, ledger, "two")
        until(lambda: done(ledger) == ["one", "two"])


def test_a_ledger_that_is_replaced_is_gone_on_with(tmp_path: Path) -> None:
    session = kit(tmp_path / "kit")
    with watching(session) as seen:
        until(lambda: "the daemon watches: triggers fire from now on" in seen.told)
        other = kit(tmp_path / "other")
        visit(other, other.workspace.ledger, "restored")
        other.workspace.ledger.close()
        root = session.workspace.root
        for rest in root.glob("ledger.db-*"):
            rest.unlink()
        (other.workspace.root / "ledger.db").rename(root / "ledger.db")
        until(lambda: any("was replaced" in line for line in seen.told))
        until(lambda: done(session.workspace.ledger) == ["restored"])


@contextmanager
def refused(url: str) -> Iterator[None]:
    """The server ends every connection to a database and takes no new one, as if it were stopped."""
    plain = url.replace("+psycopg", "")
    name = plain.rpartition("/")[2]
    with psycopg.connect(plain.removesuffix(name) + "postgres", autocommit=True) as server:
        server.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false'.encode())
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        try:
            yield
        finally:
            server.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS true'.encode())


def test_a_server_that_stops_and_starts_is_told_once_each(
    tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIDEMILL_LEDGER", postgres_url)
    session = kit(tmp_path / "kit")
    with watching(session) as seen:
        visit(session, Ledger(postgres_url), "one")
        until(lambda: done(Ledger(postgres_url)) == ["one"])
        with refused(postgres_url):
            until(lambda: any(line.startswith("daemon: ledger: the ledger at 127.0.0.1") for line in seen.told))
            assert seen.turned(10)
        until(lambda: any("ledger: well again" in line for line in seen.told))
        visit(session, Ledger(postgres_url), "two")
        until(lambda: done(Ledger(postgres_url)) == ["one", "two"])
    assert sum(line.startswith("daemon: ledger: the ledger at") for line in seen.told) <= 2
    assert not any("Traceback" in line for line in seen.told)


_HOLDS = """
import sys, time
from pathlib import Path
from tidemill.daemon.lease import Lease
from tidemill.ledger.database import open_database
lease = Lease(Path(sys.argv[1]), open_database(sys.argv[2]), "test")
assert lease.held()
print("held", flush=True)
time.sleep(60)
"""


def test_two_workspaces_on_one_ledger_are_one_environment(tmp_path: Path, postgres_url: str) -> None:
    mine = Lease(tmp_path / "mine", open_database(postgres_url), "test")
    other = Lease(tmp_path / "other", open_database(postgres_url), "production")
    words = [sys.executable, "-c", _HOLDS, str(tmp_path / "theirs"), postgres_url]
    holder = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    assert not mine.held()
    assert other.held(), "another environment is free"
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    until(mine.held)
    third = Lease(tmp_path / "third", open_database(postgres_url), "test")
    assert not third.held()
    with refused(postgres_url), pytest.raises(TidemillError, match="cannot be reached"):
        mine.held()
    assert third.held(), "the server has lost the lock of the first"
    assert not mine.held()
    third.free()
    assert mine.held()
    mine.free()
    other.free()


WATCHED = """
[problem]
decision = "d"
source = "rows"
label = "late"

[watch]
notify = ["log"]
"""


def test_a_silent_daemon_is_told_by_the_service_and_so_is_its_return(tmp_path: Path) -> None:
    session = kit(tmp_path / "kit", WATCHED)
    books, clock = session.workspace.ledger, session.clock
    listener = Listener(session)
    assert listener.look() is None, "there never was a daemon"
    daemon = Daemon(session, lambda _: None, in_place)
    daemon.turn()
    heard = listener.look()
    assert heard is not None
    assert heard.state == "watching"
    later = read_daemon_status(books, "test", clock.now() + timedelta(minutes=2))
    assert later is not None
    assert later.state == "silent"
    assert "has sent no heartbeat since" in str(later)
    (event,) = books.events.find(kind="daemon")
    _beaten(session, event.id, minutes=-3)
    for _ in range(3):
        assert (heard := listener.look()) is not None
        assert heard.state == "silent"
    assert [one.payload["state"] for one in books.events.find(kind="alert")] == ["bad"]
    _beaten(session, event.id, minutes=0)
    listener.look()
    listener.look()
    assert [one.payload["state"] for one in books.events.find(kind="alert")] == ["bad", "well"]
    daemon.end()
    assert (heard := listener.look()) is not None
    assert heard.state == "ended"


def _beaten(session: Session, event: str, minutes: int) -> None:
    at = session.clock.now() + timedelta(minutes=minutes)
    session.workspace.ledger.events.change(event, lambda one: replace(one, known_at=at))


def test_a_daemon_begins_where_the_last_one_was(tmp_path: Path) -> None:
    session = kit(tmp_path / "kit")
    first = Daemon(session, lambda _: None, in_place)
    first.turn()
    first.end()
    event = session.workspace.ledger.events.find(kind="daemon")[0]
    ages_ago = (session.clock.now() - timedelta(hours=5)).isoformat()
    session.workspace.ledger.events.change(
        event.id, lambda one: replace(one, payload=one.payload | {"looked": ages_ago})
    )
    _told_hours_ago(session, "while nobody watched", hours=3)
    _told_hours_ago(session, "long before", hours=9)
    second = Daemon(session, lambda _: None, in_place)
    second.turn()
    second.turn()
    assert done(session.workspace.ledger) == ["while nobody watched"]


def _told_hours_ago(session: Session, key: str, hours: int) -> None:
    clock = VirtualClock(session.clock.now() - timedelta(hours=hours))
    triggers = Triggers(session.project.policy, session.workspace.ledger, clock, "test")
    triggers.tell("visit", "somebody", key, clock.now(), {})


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
    told: list[str] = []
    Daemon(session, told.append, in_place).turn()
    assert session.workspace.board.routes()["kit"].version == 2
    assert told == ["the route of kit was written, but not served: it is now"]
