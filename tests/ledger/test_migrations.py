"""Migrations: real ledgers of earlier versions are upgraded, newer ledgers are an error."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import psycopg
import pytest
from sqlalchemy import create_engine, inspect

from tests.ledger.opening import read_and_write
from tests.processes import in_child
from tidemill.core.metric_filter import MetricFilter
from tidemill.errors import Corrupt, TidemillError
from tidemill.ledger.ledger import TABLES, Ledger
from tidemill.testing.ledger import run
from tidemill.testing.processes import run_in_processes

OLD_TABLES = [table.name for table in TABLES if table.name not in ("builds", "deployments", "tokens")]
KEPT = Path(__file__).parent / "ledgers"
Execute = Callable[[str], list[tuple[Any, ...]]]
Place = tuple[str, Execute]


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """The URL of an empty database, and a function that runs SQL there."""
    if request.param == "sqlite":
        file = tmp_path / "ledger.db"
        return f"sqlite:///{file}", lambda sql: _in_sqlite(file, sql)
    url = request.getfixturevalue("postgres_url")
    return url, lambda sql: _in_postgres(url, sql)


def _in_sqlite(file: Path, sql: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(file) as connection:
        if ";" in sql:
            connection.executescript(sql)
            return []
        return connection.execute(sql).fetchall()


def _in_postgres(url: str, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        found = connection.execute(sql.encode())
        return found.fetchall() if found.description else []


@pytest.fixture
def old(place: Place) -> Place:
    """A ledger of version 0.1.0 with records of every type."""
    url, execute = place
    execute((KEPT / f"0.1.0.{url.partition(':')[0].partition('+')[0]}.sql").read_text())
    return place


def _bodies(execute: Execute) -> dict[str, list[tuple[Any, ...]]]:
    return {name: execute(f"SELECT id, revision, body FROM {name} ORDER BY id") for name in OLD_TABLES}


def _layout(url: str) -> dict[str, Any]:
    """Return the definitions of the tables: columns, keys and indexes."""
    engine = create_engine(url)
    found = inspect(engine)
    layout = {
        table: {
            "columns": [
                (column["name"], str(column["type"]), column["nullable"], column["default"])
                for column in found.get_columns(table)
            ],
            "key": found.get_pk_constraint(table),
            "unique": sorted(map(str, found.get_unique_constraints(table))),
            "indexes": sorted(map(str, found.get_indexes(table))),
        }
        for table in found.get_table_names()
    }
    engine.dispose()
    return layout


def _as_far_as(kept: Any, written: Any) -> Any:
    """Return the stored record without new fields, to compare it with the record of the earlier version."""
    if isinstance(kept, dict) and isinstance(written, dict):
        return {name: _as_far_as(kept[name], written.get(name)) for name in kept}
    if isinstance(kept, list) and isinstance(written, list) and len(kept) == len(written):
        return [_as_far_as(*pair) for pair in zip(kept, written, strict=True)]
    return written


def test_upgrade_keeps_every_record(old: Place) -> None:
    url, execute = old
    before = _bodies(execute)
    ledger = Ledger(url)
    after = _bodies(execute)
    for name, rows in before.items():
        assert [row[:2] for row in after[name]] == [row[:2] for row in rows]
        for (*_, old_body), (*_, new_body) in zip(rows, after[name], strict=True):
            kept = msgspec.json.decode(old_body)
            assert _as_far_as(kept, msgspec.json.decode(new_body)) == kept
        read = getattr(ledger, name).find()
        assert [one.id for one in read] == [row[0] for row in rows] != []
        for record, (_, _, body) in zip(read, rows, strict=True):
            written, kept = msgspec.json.decode(msgspec.json.encode(record)), msgspec.json.decode(body)
            kept.pop("resumed_from", None)
            assert _as_far_as(kept, written) == kept


def _add(execute: Execute, table: str, **facts: Any) -> None:
    """Add a copy of the first record of an old table, with these values."""
    ((body,),) = execute(f"SELECT body FROM {table} ORDER BY id LIMIT 1")
    record = msgspec.json.decode(body) | facts
    version = record.get("version", 0)
    extra = {"routes": f", environment, model, version) VALUES ({{}}, 'production', 'late', '{version:012d}')"}
    values = f"'{record['id']}', 1, '{msgspec.json.encode(record).decode()}'"
    execute(f"INSERT INTO {table} (id, revision, body" + extra.get(table, ") VALUES ({})").format(values) + ";")


def test_upgrade_reads_facts_from_texts_into_fields(old: Place) -> None:
    url, execute = old
    reasons = {
        3: ("canary of 20%", "policy", "canary"),
        4: ("promoted: better: live loss 0.4 against 0.5", "policy", "promote"),
        5: ("released whole: its policy asks for no canary", "policy", "direct"),
        6: ("rolled back: its share is 0.9", "policy", "rollback"),
        7: ("promoted by hand", "zoë", "manual"),
        8: ("it was slow", "zoë", "manual"),
        9: ("words of nobody knows when", "policy", "unknown"),
    }
    for version, (reason, by, _) in reasons.items():
        _add(execute, "routes", id=f"r{version}", version=version, reason=reason, by=by)
    ended = [
        ("stopped", "interrupted by hand", ""),
        ("interrupted", "interrupted by hand", "signal"),
        ("interrupted", "its process died", "crash"),
        ("interrupted", "it was at work when the backup was taken", "restore"),
    ]
    attempts = [{"started": "2013-03-01T12:00:00Z", "state": state, "error": error} for state, error, _ in ended]
    for place, attempt in enumerate(attempts):
        _add(execute, "runs", **attempt, id=f"u{place}", attempts=attempts)
    _add(execute, "steps", id="s1", reason="it said stop; same code and inputs as in run 013d25d2-bde8")
    _add(execute, "steps", id="s2", reason="it changes the world: never cached")

    ledger = Ledger(url)
    changes = {route.version: route.change for route in ledger.routes.find()}
    assert changes == {1: "first", 2: "unknown"} | {version: change for version, (*_, change) in reasons.items()}
    for place, (*_, interruption) in enumerate(ended):
        run_then = ledger.runs.get(f"u{place}")
        assert run_then.interruption == interruption
        assert [one.interruption for one in run_then.attempts] == [meant for *_, meant in ended]
    steps = {step.id: (step.decision, step.stops) for step in ledger.steps.find()}
    assert (steps["s1"], steps["s2"]) == (("hit", True), ("changes", False))
    assert sorted(decision for decision, _ in steps.values()) == ["changes", "hit", "new", "new", "off", "off"]


def test_search_finds_the_records_of_an_upgraded_ledger(old: Place) -> None:
    ledger = Ledger(old[0])
    failed = ledger.runs.find(text="ANKUNFT zürich")
    assert [one.state for one in failed] == ["failed"]
    assert len(ledger.runs.find(tag="team=blue")) == 3
    assert len(ledger.runs.find(metric=MetricFilter("test_log_loss", "<", 0.5))) == 2
    assert [one.step for one in ledger.steps.find(linked=f"out:{'b' * 64}")] == ["fit"]
    assert [one.step for one in ledger.steps.find(linked=f"in:{'a' * 64}")] == ["fit", "fit"]
    assert [one.label for one in ledger.releases.find(text="late/2")] == ["late/2"]
    assert len(ledger.routes.find(linked="release:late/1")) == 1
    assert len(ledger.events.find(text="märz")) == 2


def test_upgraded_ledger_has_the_tables_of_a_new_one(old: Place, tmp_path: Path) -> None:
    url, execute = old
    Ledger(url)
    upgraded = _layout(url)
    if url.startswith("sqlite"):
        fresh = f"sqlite:///{tmp_path / 'fresh.db'}"
    else:
        execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
        fresh = url
    Ledger(fresh)
    assert upgraded == _layout(fresh)
    assert {*upgraded} == {table.name for table in TABLES} | {"terms", "measures", "seals", "alembic_version"}


def test_eight_processes_upgrade_a_ledger_at_the_same_time(old: Place) -> None:
    url, execute = old
    assert run_in_processes(8, read_and_write, url) == [4] * 8
    assert len(execute("SELECT version_num FROM alembic_version")) == 1


def test_new_ledger_has_the_current_version(place: Place) -> None:
    url, execute = place
    Ledger(url)
    first = _layout(url)
    Ledger(url)
    assert _layout(url) == first
    assert len(execute("SELECT version_num FROM alembic_version")) == 1


def test_newer_ledger_is_an_error_and_stays_unchanged(place: Place) -> None:
    url, execute = place
    Ledger(url).runs.add(run(1))
    execute("UPDATE alembic_version SET version_num = '9999'")
    before = _layout(url), _bodies(execute)
    with pytest.raises(TidemillError, match="newer version of tidemill: 9999") as refused:
        Ledger(url)
    assert "upgrade" in refused.value.cure
    assert (_layout(url), _bodies(execute)) == before


def test_failed_upgrade_leaves_the_old_ledger(old: Place) -> None:
    url, execute = old
    execute("""UPDATE audit SET body = '{"half": ' WHERE action = 'promoted'""")
    before = _layout(url), _bodies(execute)
    for _ in range(2):
        with pytest.raises(Corrupt, match=r"audit .* cannot be read") as refused:
            Ledger(url)
        assert "tidemill restore" in refused.value.cure
        assert (_layout(url), _bodies(execute)) == before


def test_sqlite_ledger_needs_no_libraries_of_extras(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    program = f"""
        import sys
        from tidemill.ledger.ledger import Ledger
        Ledger({url!r})
        print(sorted({{"alembic", "sqlalchemy", "psycopg"}} & sys.modules.keys()))
        """
    assert [in_child(program), in_child(program)] == ["[]\n", "[]\n"]
