"""The seals of the records: every edit by another program is found, and nothing that Tidemill does is one."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.ledger.auditing import entry
from tidemill.core.artifact import Artifact
from tidemill.core.check import Verdict
from tidemill.core.run import Run
from tidemill.errors import Conflict
from tidemill.ledger.ledger import TABLES, Ledger
from tidemill.testing.processes import run_in_processes

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)
Edit = Callable[[Any, random.Random], None]


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    address: str = request.getfixturevalue("postgres_url")
    return address


def verdict(number: int) -> Verdict:
    return Verdict(
        id=f"v{number:04d}", check="gate", subject=f"shop/{number}", outcome="pass", action="proceed",
        reason="better", run=f"r{number}", time=NOON, environment="production", evidence={"loss": number / 7},
    )  # fmt: skip


def new_run(number: int) -> Run:
    return Run(
        id=f"r{number:04d}", pipeline="training", state="running", started=NOON,
        environment="production", metrics={"test_log_loss": number / 3, "rows": number},
    )  # fmt: skip


def fill(url: str) -> Ledger:
    books = Ledger(url)
    for number in range(5):
        books.verdicts.add(verdict(number))
        books.runs.add(new_run(number))
        books.audit.add(entry(number))
    books.verdicts.add_all([verdict(number) for number in range(5, 9)])
    books.runs.change("r0002", lambda run: replace(run, state="done"))
    return books


def add_and_change(number: int, url: str) -> int:
    """Write, in another process, records that others write too."""
    books, added = Ledger(url), 0
    for position in range(20):
        try:
            books.verdicts.add(verdict(100 + position))
            added += 1
        except Conflict:
            books.verdicts.change(f"v{100 + position:04d}", lambda old: replace(old, reason=f"seen by {number}"))
    return added


@contextmanager
def edited(books: Ledger) -> Iterator[Any]:
    """Open a connection of another program, which commits at the end."""
    connection = books.database.connect()
    try:
        yield connection
        connection.commit()
    finally:
        connection.close()


def test_what_tidemill_writes_is_intact(url: str) -> None:
    books = fill(url)
    with pytest.raises(Conflict):
        books.verdicts.add(verdict(1))

    def fail() -> None:
        with books.transaction():
            books.verdicts.add(verdict(50))
            books.verdicts.add_all([verdict(51), verdict(1)])

    with pytest.raises(Conflict):
        fail()
    assert list(books.verify()) == []


def test_processes_that_write_the_same_records_leave_them_intact(url: str) -> None:
    Ledger(url)
    assert sum(run_in_processes(3, add_and_change, url)) == 20
    assert list(Ledger(url).verify()) == []


def test_many_seals_become_one_for_each_book(url: str) -> None:
    books = fill(url)
    for number in range(1_000):
        books.artifacts.add(Artifact(id=f"a{number}", kind="frame", size=number))
    books.tidy()
    with edited(books) as connection:
        assert len(connection.execute("SELECT id FROM seals").fetchall()) == 4
    assert list(books.verify()) == []
    books.runs.change("r0003", lambda run: replace(run, state="failed"))
    assert list(books.verify()) == []


def pick(connection: Any, table: str, chance: random.Random) -> str:
    rows = sorted(row[0] for row in connection.execute(f"SELECT id FROM {table}").fetchall())
    return str(chance.choice(rows))


def edit_body(connection: Any, chance: random.Random) -> None:
    table = chance.choice(["verdicts", "runs", "audit"])
    one = pick(connection, table, chance)
    body = connection.execute(f"SELECT body FROM {table} WHERE id = '{one}'").fetchall()[0][0]
    places = [place for place, sign in enumerate(body) if sign.isalnum()]
    place = chance.choice(places)
    other = chance.choice([sign for sign in "abc123" if sign != body[place]])
    changed = (body[:place] + other + body[place + 1 :]).replace("'", "''")
    connection.execute(f"UPDATE {table} SET body = '{changed}' WHERE id = '{one}'")


def edit_column(connection: Any, chance: random.Random) -> None:
    table, column = chance.choice([("verdicts", "outcome"), ("runs", "state"), ("audit", "actor"), ("runs", "words")])
    connection.execute(f"UPDATE {table} SET {column} = 'other' WHERE id = '{pick(connection, table, chance)}'")


def edit_revision(connection: Any, chance: random.Random) -> None:
    connection.execute(f"UPDATE runs SET revision = revision + 1 WHERE id = '{pick(connection, 'runs', chance)}'")


def delete(connection: Any, chance: random.Random) -> None:
    table = chance.choice(["verdicts", "runs", "audit", "seals"])
    connection.execute(f"DELETE FROM {table} WHERE id = '{pick(connection, table, chance)}'")


def edit_seal(connection: Any, chance: random.Random) -> None:
    one, value = pick(connection, "seals", chance), chance.choice(["", "x" * 64, "0" * 64, f"{1:064x}"])
    connection.execute(f"UPDATE seals SET delta = '{value}' WHERE id = '{one}'")


def insert(connection: Any, chance: random.Random) -> None:
    one = pick(connection, "verdicts", chance)
    connection.execute(
        'INSERT INTO verdicts (id, revision, "check", outcome, action, run, model, subject, environment, body, words)'
        " SELECT 'zz', revision, \"check\", outcome, action, run, model, subject, environment, body, words"
        f" FROM verdicts WHERE id = '{one}'"
    )


def edit_index(connection: Any, chance: random.Random) -> None:
    statement = chance.choice(
        [
            "UPDATE measures SET value = value + 1 WHERE book = 'runs' AND name = 'rows'",
            "DELETE FROM measures WHERE book = 'runs'",
            "UPDATE terms SET id = id || 'z' WHERE book = 'verdicts'",
            "INSERT INTO terms (book, term, id) VALUES ('runs', 'other', 'r0001')",
        ]
    )
    connection.execute(statement)


EDITS: tuple[Edit, ...] = (edit_body, edit_column, edit_revision, delete, edit_seal, insert, edit_index)


@settings(deadline=None, max_examples=100)
@given(edit=st.sampled_from(EDITS), seed=st.integers(0, 2**32))
def test_each_of_a_hundred_edits_by_another_program_is_found(
    tmp_path_factory: pytest.TempPathFactory, edit: Edit, seed: int
) -> None:
    books = fill(f"sqlite:///{tmp_path_factory.mktemp('edits') / 'ledger.db'}")
    with edited(books) as connection:
        edit(connection, random.Random(seed))
    assert list(books.verify())
    books.close()


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_edits_are_found_in_each_database(url: str, edit: Edit) -> None:
    books = fill(url)
    with edited(books) as connection:
        edit(connection, random.Random(0))
    assert list(books.verify())


def test_every_table_has_seals() -> None:
    from tidemill.ledger.migrations.m0006_seals import _BOOKS

    assert {table.name for table in TABLES} == set(_BOOKS)
