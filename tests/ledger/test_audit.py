"""The chain of the audit log: it has one end for all processes, and survives upgrades, backups and crashes."""

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.ledger.auditing import add_entries, entry
from tidemill.core.audit import AuditEntry
from tidemill.errors import InputError, TidemillError
from tidemill.evidence.audit import verify_entries
from tidemill.ledger.ledger import Ledger
from tidemill.testing.processes import run_in_processes

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    address: str = request.getfixturevalue("postgres_url")
    return address


def test_each_entry_has_the_hash_of_the_one_before_it(url: str) -> None:
    books = Ledger(url)
    first, second = books.audit.add(entry(1)), books.audit.add(entry(0))
    assert (first.number, first.previous) == (1, "")
    assert (second.number, second.previous) == (2, first.hash)
    assert books.audit.head() == second
    assert books.audit.get(first.id) == first
    report = verify_entries(books.audit.stored())
    assert (report.entries, report.head, report.faults) == (2, second.hash, ())


def test_processes_that_write_at_the_same_time_never_fork_the_chain(url: str) -> None:
    Ledger(url)
    assert sum(run_in_processes(4, add_entries, url)) == 4 * 25
    books = Ledger(url)
    report = verify_entries(books.audit.stored())
    assert (report.entries, report.faults) == (100, ())
    assert {found.actor for found in books.audit.find()} == {f"person {number}" for number in range(4)}


def test_an_entry_of_a_transaction_that_fails_leaves_no_gap(url: str) -> None:
    books = Ledger(url)
    books.audit.add(entry(1))

    def fail() -> None:
        with books.transaction(durable=True):
            books.audit.add(entry(2))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    with pytest.raises(InputError, match="cannot be stored as JSON"):
        books.audit.add(replace(entry(3), detail={"loss": object()}))
    with books.transaction(durable=True):
        books.audit.add(entry(4))
        books.audit.add(entry(5))
    books.audit.add_all([entry(6), entry(7)])
    assert [found.number for found in books.audit.find()] == [1, 2, 3, 4, 5]
    assert verify_entries(books.audit.stored()).faults == ()


def test_an_entry_never_changes(url: str) -> None:
    books = Ledger(url)
    added = books.audit.add(entry(1))
    with pytest.raises(TidemillError, match="cannot be changed"):
        books.audit.change(added.id, lambda found: replace(found, actor="somebody else"))
    assert books.audit.get(added.id) == added


def test_a_copy_keeps_the_chain_and_an_old_copy_gets_one(url: str, tmp_path: Path) -> None:
    books = Ledger(url)
    for number in range(5):
        books.audit.add(entry(number, detail={"share": 0.1 + 0.2, "when": "ü", "list": [1, None], "n": 2**60}))
    lines = {name: list(lines) for name, lines in books.export()}["audit"]
    copy = Ledger(f"sqlite:///{tmp_path / 'copy.db'}")
    copy.load("audit", lines, lambda record: record)
    assert copy.audit.find() == books.audit.find()
    assert verify_entries(copy.audit.stored()).faults == ()
    old = [line.partition(b',"number"')[0] + b"}" for line in lines]
    upgraded = Ledger(f"sqlite:///{tmp_path / 'old.db'}")
    upgraded.load("audit", old, lambda record: record)
    report = verify_entries(upgraded.audit.stored())
    assert (report.entries, report.faults) == (5, ())


def test_an_altered_copy_stays_altered(tmp_path: Path) -> None:
    books = Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    for number in range(5):
        books.audit.add(entry(number))
    lines = {name: list(lines) for name, lines in books.export()}["audit"]
    lines[2] = lines[2].replace(b"person", b"nobody")
    copy = Ledger(f"sqlite:///{tmp_path / 'copy.db'}")
    copy.load("audit", lines, lambda record: record)
    assert [fault.number for fault in verify_entries(copy.audit.stored()).faults] == [3]


def test_upgraded_entries_are_linked_in_the_order_of_their_ids(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    with sqlite3.connect(file) as connection:
        connection.executescript((Path(__file__).parent / "ledgers" / "0.1.0.sqlite.sql").read_text())
        body = connection.execute("SELECT body FROM audit").fetchone()[0]
        identifier = body[7:43]
        for number in range(1_500):  # more than one batch
            other = f"{identifier[:-4]}{number:04x}"
            if other != identifier:
                values = (other, 1, body.replace(identifier, other))
                connection.execute("INSERT INTO audit (id, revision, body) VALUES (?, ?, ?)", values)
    books = Ledger(f"sqlite:///{file}")
    report = verify_entries(books.audit.stored())
    entries: list[AuditEntry] = books.audit.find()
    assert (report.entries, report.faults) == (1_500, ())
    assert [found.number for found in entries] == list(range(1, 1_501))
    assert books.audit.add(entry(1)).number == 1_501
    assert len(books.audit.find(actor="zoë")) == 1_500
