"""Tests of the ledger: failures of disk and server, and a state machine."""

import gc
import resource
import threading
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from msgspec.structs import replace

from tests.parts import cut_connections
from tests.processes import in_child
from tidemill.core.check import Verdict
from tidemill.core.metric_filter import MetricFilter
from tidemill.core.release import Release
from tidemill.errors import Conflict, Corrupt, InputError, NotFound, TidemillError
from tidemill.ledger import mounts
from tidemill.ledger.ledger import Ledger
from tidemill.ledger.sqlite import TEMPORARY, Sqlite
from tidemill.testing.ledger import release, run

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


def test_missing_folder_is_an_error_with_a_cure(tmp_path: Path) -> None:
    with pytest.raises(TidemillError, match="cannot be opened") as refused:
        Ledger(f"sqlite:///{tmp_path / 'nowhere' / 'ledger.db'}")
    assert "can write" in refused.value.cure


def test_file_that_is_no_database_is_corrupt(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_text("this file is not a database" * 100)
    with pytest.raises(Corrupt, match="cannot be opened: file is not a database") as refused:
        Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    assert "tidemill restore" in refused.value.cure


def test_overwritten_page_is_corrupt(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    ledger = Ledger(f"sqlite:///{file}")
    with ledger.transaction():
        for place in range(500):
            ledger.runs.add(replace(run(place), error="x" * 1000))
    ledger.close()
    middle = file.stat().st_size // 2 // 4096 * 4096
    with file.open("r+b") as content:
        content.seek(middle)
        content.write(b"\xa5" * 4096 * 20)
    with pytest.raises(Corrupt, match="malformed") as refused:
        Ledger(f"sqlite:///{file}").runs.find()
    assert "tidemill restore" in refused.value.cure


def test_numpy_numbers_in_evidence_are_stored_as_plain_ones(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    evidence = {"loss": np.float64(0.5), "fits": np.bool_(True), "rows": np.int64(7), "compared": [np.float32(0.25)]}
    verdict = Verdict(
        check="gate", subject="x/1", outcome="pass", action="proceed", reason="", evidence=evidence, id="v"
    )
    ledger.verdicts.add(verdict)
    assert ledger.verdicts.get("v").evidence == {"loss": 0.5, "fits": True, "rows": 7, "compared": [0.25]}
    with pytest.raises(InputError, match="cannot be stored"):
        ledger.verdicts.add(replace(verdict, id="w", evidence={"losses": np.zeros(3)}))


def test_unknown_kind_of_database_is_an_error_that_lists_the_known_kinds() -> None:
    with pytest.raises(InputError, match="mysql:") as refused:
        Ledger("mysql://root:secret@localhost/ledger")
    assert "sqlite:///FILE" in refused.value.cure


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs"])
def test_network_file_system_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    shared = tmp_path / "team share"
    shared.mkdir()
    table = tmp_path / "mountinfo"
    point = str(shared).replace(" ", "\\040")
    table.write_text(f"22 1 8:1 / / rw - ext4 /dev/a rw\n30 22 0:9 / {point} rw shared:1 - {kind} server:/ rw\n")
    monkeypatch.setattr(mounts, "MOUNTS", table)
    with pytest.raises(TidemillError, match=f"network file system .{kind}.") as refused:
        Ledger(f"sqlite:///{shared / 'ledger.db'}")
    assert "TIDEMILL_LEDGER" in refused.value.cure
    assert "TIDEMILL_WORKSPACE" in refused.value.cure
    Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")


def test_error_of_an_unreachable_server_has_no_password() -> None:
    with pytest.raises(TidemillError, match="cannot be opened") as refused:
        Ledger("postgresql+psycopg://tidemill:secret@127.0.0.1:1/ledger")
    assert "secret" not in str(refused.value)


def test_reads_and_writes_continue_after_a_restart_of_the_server(postgres_url: str) -> None:
    ledger = Ledger(postgres_url)
    ledger.runs.add(run(1))
    cut_connections(postgres_url)
    ledger.runs.add(run(2))
    cut_connections(postgres_url)
    assert len(ledger.runs.find()) == 2


def test_restart_inside_a_transaction_is_an_error_and_rolls_back(postgres_url: str) -> None:
    ledger = Ledger(postgres_url)

    def broken_off() -> None:
        with ledger.transaction():
            ledger.runs.add(run(1))
            cut_connections(postgres_url)
            ledger.runs.add(run(2))

    with pytest.raises(TidemillError, match="refused") as refused:
        broken_off()
    assert refused.value.cure
    assert ledger.runs.find() == []
    ledger.runs.add(run(2))
    assert ledger.runs.find() == [run(2)]


def test_full_disk_is_an_error_and_the_ledger_stays_intact(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    Ledger(url).runs.add(run(1))
    reported = in_child(
        f"""
        from msgspec.structs import replace
        from tidemill.ledger.ledger import Ledger
        from tidemill.testing.ledger import run
        ledger = Ledger({url!r})
        explain(lambda: ledger.runs.add(replace(run(2), error="x" * 2_000_000)))
        print(len(ledger.runs.find()))
        """,
        limits={resource.RLIMIT_FSIZE: 1_000_000},
    )
    assert reported.startswith(f"TidemillError: the ledger at {tmp_path}/ledger.db refused: ")
    assert "free space" in reported
    assert reported.endswith("1\n")
    assert Ledger(url).runs.find() == [run(1)]


def test_ledger_continues_after_space_was_freed(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = Ledger(url)
    ledger.runs.add(run(1))
    with ledger.transaction() as connection:
        connection.execute("PRAGMA max_page_count = 1")

    def fill() -> None:
        with ledger.transaction():
            ledger.runs.add(run(2))
            ledger.runs.add(replace(run(3), error="x" * 1_000_000))

    for _ in range(2):
        with pytest.raises(TidemillError, match="disk is full") as refused:
            fill()
        assert "free space" in refused.value.cure
        assert ledger.runs.find() == [run(1)]
    with ledger.transaction() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    fill()
    assert len(ledger.runs.find()) == 3


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a new ledger of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return str(request.getfixturevalue("postgres_url"))


def test_forked_child_does_not_close_the_connections_of_its_parent(url: str) -> None:
    reported = in_child(
        f"""
        import gc, threading
        from tidemill.ledger.ledger import Ledger
        from tidemill.testing.ledger import run
        ledger = Ledger({url!r})
        ledger.runs.add(run(1))
        done, found = threading.Event(), threading.Event()
        other = threading.Thread(target=lambda: (ledger.runs.find(), found.set(), done.wait()))
        other.start()
        found.wait()
        with ledger.transaction():
            ledger.runs.add(run(2))
            child = os.fork()
            if not child:
                seen = len(ledger.runs.find())
                gc.collect()
                os._exit(seen)
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            ledger.runs.add(run(3))
        done.set()
        other.join()
        child = os.fork()
        if not child:
            ledger.runs.add(run(4))
            ledger.close()
            os._exit(0)
        os.waitpid(child, 0)
        ledger.runs.add(run(5))
        print(len(ledger.runs.find()))
        """
    )
    assert reported == "1\n5\n"


def test_finished_threads_close_their_connections(postgres_url: str) -> None:
    ledger = Ledger(postgres_url)
    for place in range(20):
        thread = threading.Thread(target=ledger.runs.add, args=(run(place),))
        thread.start()
        thread.join()
    gc.collect()
    with ledger.transaction() as connection:
        (open_now,) = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type LIKE 'client%'"
        ).fetchone()
    assert open_now < 5
    assert len(ledger.runs.find()) == 20


def test_read_only_ledger_is_an_error(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    ledger = Ledger(url)
    ledger.runs.add(run(1))
    ledger.close()
    reported = in_child(
        f"""
        from tidemill.ledger.ledger import Ledger
        from tidemill.testing.ledger import run
        explain(lambda: Ledger({url!r}).runs.add(run(2)))
        """,
        read_only=tmp_path,
    )
    assert reported.startswith("TidemillError: the ledger at")
    assert "can write" in reported


def test_add_all_indexes_records_like_add(url: str) -> None:
    ledger = Ledger(url)
    records = [replace(run(place, metrics={"auc": place}), tags={"team": f"blue{place}"}) for place in range(5)]
    ledger.runs.add(records[0])
    ledger.runs.add_all(records[1:])
    ledger.runs.add_all([])
    assert ledger.runs.find() == ledger.runs.find(text="train blue") == records
    assert ledger.runs.find(tag="team=blue3") == ledger.runs.find(metric=MetricFilter("auc", "=", 3)) == [records[3]]
    with pytest.raises(Conflict):
        ledger.runs.add_all([run(7), records[2]])
    assert ledger.runs.find(text="training") == records


def test_killed_transaction_is_rolled_back(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    Ledger(url).runs.add(run(1))
    in_child(
        f"""
        from tidemill.ledger.ledger import Ledger
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
    """A book of releases and a plain dict: after any sequence of operations both have the same content."""

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


def test_a_temporary_ledger_never_waits_for_the_disk_and_stays_readable(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    Ledger(url).close()
    database = Sqlite(url + TEMPORARY)
    connection = database.connect()
    for durable in (True, False, True):
        database.begin(connection, durable=durable)
        database.roll_back(connection)
        assert connection.execute("PRAGMA synchronous").fetchone() == (0,)
    database.begin(connection, durable=True)
    connection.execute("CREATE TABLE kept (id TEXT)")
    connection.execute("COMMIT")
    connection.close()
    assert database.file == tmp_path / "ledger.db"
    assert Sqlite(url).has_table(Sqlite(url).connect(), "kept")
