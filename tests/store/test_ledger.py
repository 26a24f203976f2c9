"""The ledger where the disk or the server refuses, and as a machine of states."""

import resource
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace
from sqlalchemy.engine import make_url

from tests.store.kit import in_child
from tidemill.core.release import Release
from tidemill.errors import Conflict, NotFound, TidemillError
from tidemill.store.ledger import Ledger
from tidemill.testing.ledger import release, run

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


def test_a_place_that_is_not_there_is_told_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(TidemillError, match="cannot be opened") as refused:
        Ledger(f"sqlite:///{tmp_path / 'nowhere' / 'ledger.db'}")
    assert "writable" in refused.value.cure


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("this is no database, but a letter to the miller" * 100)
    with pytest.raises(TidemillError, match="cannot be opened: file is not a database"):
        Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


def test_a_server_that_does_not_answer_is_told_without_its_password() -> None:
    with pytest.raises(TidemillError, match="cannot be opened") as refused:
        Ledger("postgresql+psycopg://tidemill:secret@127.0.0.1:1/ledger")
    assert "secret" not in str(refused.value)


def _cut(postgres_url: str) -> None:
    """End every connection to a database, as a server does that is started anew."""
    plain = make_url(postgres_url).set(drivername="postgresql", database="postgres")
    with psycopg.connect(plain.render_as_string(hide_password=False), autocommit=True) as server:
        server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [make_url(postgres_url).database],
        )


def test_a_server_that_went_away_and_came_back_is_not_even_noticed(postgres_url: str) -> None:
    ledger = Ledger(postgres_url)
    ledger.runs.add(run(1))
    _cut(postgres_url)
    ledger.runs.add(run(2))
    _cut(postgres_url)
    assert len(ledger.runs.find()) == 2


def test_a_server_that_goes_away_within_a_transaction_is_told_and_keeps_nothing_of_it(postgres_url: str) -> None:
    ledger = Ledger(postgres_url)

    def broken_off() -> None:
        with ledger.transaction():
            ledger.runs.add(run(1))
            _cut(postgres_url)
            ledger.runs.add(run(2))

    with pytest.raises(TidemillError, match="refused") as refused:
        broken_off()
    assert refused.value.cure
    assert ledger.runs.find() == []
    ledger.runs.add(run(2))
    assert ledger.runs.find() == [run(2)]


def test_a_full_disk_is_told_and_leaves_the_ledger_whole(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    Ledger(url).runs.add(run(1))
    told = in_child(
        f"""
        from msgspec.structs import replace
        from tidemill.store.ledger import Ledger
        from tidemill.testing.ledger import run
        ledger = Ledger({url!r})
        explain(lambda: ledger.runs.add(replace(run(2), error="x" * 2_000_000)))
        print(len(ledger.runs.find()))
        """,
        limits={resource.RLIMIT_FSIZE: 1_000_000},
    )
    assert told.startswith(f"TidemillError: the ledger at {tmp_path}/ledger.db refused: ")
    assert "free space" in told
    assert told.endswith("1\n")
    assert Ledger(url).runs.find() == [run(1)]


def test_a_read_only_ledger_is_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = Ledger(url)
    ledger.runs.add(run(1))
    ledger.close()
    told = in_child(
        f"""
        from tidemill.store.ledger import Ledger
        from tidemill.testing.ledger import run
        explain(lambda: Ledger({url!r}).runs.add(run(2)))
        """,
        read_only=tmp_path,
    )
    assert told.startswith("TidemillError: the ledger at")
    assert "writable" in told


def test_a_killed_transaction_leaves_nothing(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    Ledger(url).runs.add(run(1))
    in_child(
        f"""
        from tidemill.store.ledger import Ledger
        from tidemill.testing.ledger import run
        ledger = Ledger({url!r})
        with ledger.transaction(durable=True):
            ledger.runs.add(run(2))
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        check=False,
    )
    ledger = Ledger(url)
    assert ledger.runs.find() == [run(1)]
    ledger.runs.add(run(2))


class Registered(RuleBasedStateMachine):
    """A book of releases beside a plain dict: whatever is done, both say the same."""

    @initialize()
    def open(self) -> None:
        self.ledger = Ledger("sqlite://")
        self.known: dict[str, Release] = {}

    @rule(place=st.integers(0, 8), version=st.integers(1, 4), name=st.sampled_from(["late", "full"]))
    def add(self, place: int, version: int, name: str) -> None:
        record = release(place, version, name)
        taken = record.id in self.known or any((r.name, r.version) == (name, version) for r in self.known.values())
        try:
            self.ledger.releases.add(record)
        except Conflict:
            assert taken
        else:
            assert not taken
            self.known[record.id] = record

    @rule(place=st.integers(0, 8), version=st.integers(1, 4), breaks=st.booleans())
    def change(self, place: int, version: int, *, breaks: bool) -> None:
        record = release(place, version)

        def update(old: Release) -> Release:
            if breaks:
                raise RuntimeError
            return replace(old, version=version)

        others = [r for r in self.known.values() if r.id != record.id]
        known = self.known.get(record.id)
        taken = known is not None and any((r.name, r.version) == (known.name, version) for r in others)
        try:
            changed = self.ledger.releases.change(record.id, update)
        except NotFound:
            assert known is None
        except RuntimeError:
            assert breaks
        except Conflict:
            assert taken
        else:
            assert not taken
            self.known[record.id] = changed

    @rule(places=st.lists(st.integers(0, 8), max_size=3), version=st.integers(1, 4), breaks=st.booleans())
    def add_together(self, places: list[int], version: int, *, breaks: bool) -> None:
        before = dict(self.known)
        try:
            with self.ledger.transaction():
                for place in places:
                    self.add(place, version, "late")
                if breaks:
                    raise RuntimeError
        except RuntimeError:
            self.known = before

    @invariant()
    def both_say_the_same(self) -> None:
        found = self.ledger.releases.find()
        assert found == [self.known[name] for name in sorted(self.known)]
        for name in ("late", "full"):
            assert self.ledger.releases.find(name=name) == [r for r in found if r.name == name]


TestRegistered = Registered.TestCase
TestRegistered.settings = settings(max_examples=25, stateful_step_count=12, deadline=None)
