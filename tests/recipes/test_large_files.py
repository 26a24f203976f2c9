"""A file that is too large to be read at once is ingested in parts, with the rows and the verdict of the whole file."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from msgspec import to_builtins

from tidemill.compose.session import open_session
from tidemill.core.check import SchemaEvidence
from tidemill.core.columns import ARRIVED, KNOWN_AT, PATH, TIME
from tidemill.flow.engine import resume, run
from tidemill.flow.session import Session
from tidemill.project.project import Project

ROWS = 6_000
SMALL = "max_memory_mb = 1\n"
SCHEMA = """source = "rows"
version = 1
[columns]
id = { type = "integer" }
at = { type = "time" }
x = { type = "number", low = -10, high = 10 }
word = { type = "text" }
kind = { type = "text", domain = ["a", "b", "c"] }
y = { type = "boolean" }
"""

STRICT = SCHEMA.replace('"text", domain', '"text", missing = 0.0, domain').replace(
    "[columns]", 'key = ["id"]\n[columns]'
)


def make_project(folder: Path, settings: str = "", schema: str = SCHEMA) -> Session:
    (folder / "data").mkdir(parents=True, exist_ok=True)
    named = 'schema = "rows.toml"\n' if schema else ""
    (folder / "tidemill.toml").write_text(
        f'[project]\nname = "large"\n[sources.rows]\npath = "data/*"\ntime = "at"\n{named}{settings}[problem]\n'
        'decision = "d"\nsource = "rows"\nlabel = "kind"\n'
    )
    if schema:
        (folder / "rows.toml").write_text(schema)
    (folder / "pipeline.py").write_text("from tidemill.recipes import ingestion\n")
    return open_session(Project(folder))


def make_rows(seed: int = 1) -> list[dict[str, Any]]:
    rng = random.Random(seed)
    return [
        {
            "id": number,
            "at": f"2026-03-{rng.randrange(1, 28):02}T12:00:00Z",
            "x": rng.choice([rng.uniform(-9, 9), rng.randrange(9), None]),
            "word": rng.choice(["plain", 'a "quoted" one', "two\nlines", "Ünïcode, with a comma", ""])
            + str(number % 7),
            "kind": rng.choice("abc"),
            "y": rng.random() < 0.5,
        }
        for number in range(ROWS)
    ]


def write(folder: Path, form: str, rows: list[dict[str, Any]]) -> Path:
    file = folder / "data" / f"large.{form}"
    frame = pl.DataFrame(rows, infer_schema_length=None)
    if form == "parquet":
        frame = frame.with_columns(pl.col("at").str.to_datetime(time_zone="UTC"))
        frame.write_parquet(file, row_group_size=700)
    elif form == "jsonl":
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    else:
        content = frame.write_csv().encode()
        file.write_bytes(gzip.compress(content) if form == "csv.gz" else content)
    os.utime(file, (1_777_000_000, 1_777_000_000))
    return file


def ingest(session: Session) -> dict[str, Any]:
    run(session, session.pipeline("ingestion"))
    (verdict,) = session.workspace.ledger.verdicts.find(check="schema")
    evidence = to_builtins(verdict.read(SchemaEvidence))
    return {"reason": verdict.reason, "outcome": verdict.outcome, "action": verdict.action, "evidence": evidence}


def read(session: Session) -> list[dict[str, Any]]:
    tables = session.workspace.tables
    frame = tables.read("rows", tables.version("rows")).drop(ARRIVED)
    assert {TIME, KNOWN_AT, PATH} <= set(frame.columns)
    return sorted((dict(sorted(row.items())) for row in frame.to_dicts()), key=repr)


@pytest.fixture
def both(tmp_path: Path) -> Callable[..., Any]:
    def compare(form: str, rows: list[dict[str, Any]], settings: str = "", schema: str = SCHEMA) -> Any:
        found = []
        for name, bounds in (("whole", ""), ("parts", SMALL)):
            session = make_project(tmp_path / name, settings + bounds, schema)
            file = write(tmp_path / name, form, rows)
            found.append((ingest(session), session))
            assert file.exists()
        (whole, first), (parts, second) = found
        return whole, parts, (first, second)

    return compare


@pytest.mark.parametrize(
    ("form", "settings"), [("csv.gz", ""), ("csv", 'key = ["id"]\n'), ("jsonl", ""), ("parquet", 'key = ["id"]\n')]
)
def test_a_large_file_has_the_rows_and_the_verdict_of_the_whole(form: str, settings: str, both: Any) -> None:
    rows = make_rows()
    rows[5_900] = dict(rows[10])  # an equal row, far away
    if settings:
        rows[5_900]["id"] = 5_900
    whole, parts, (first, second) = both(form, rows, settings)
    assert parts == whole
    assert whole["action"] == "proceed"
    assert whole["evidence"]["rows"] == ROWS
    assert read(second) == read(first)
    (table,) = second.project.folder.glob(".tidemill/**/rows/_delta_log")
    assert len(list(table.parent.glob("batch-*.parquet"))) > 3, "it came in parts"


def spoil(**changes: Any) -> Callable[[list[dict[str, Any]]], None]:
    def change(rows: list[dict[str, Any]]) -> None:
        for number in (17, 1_500, 5_950):
            rows[number] |= changes

    return change


@pytest.mark.parametrize(
    ("form", "change"),
    [("csv", spoil(x=99.5, kind="z", id=7)), ("jsonl", spoil(kind=None)), ("parquet", spoil(x=99.5, id=7))],
    ids=["csv", "jsonl", "parquet"],
)
def test_a_bad_large_file_is_stopped_as_the_whole_file(change: Any, form: str, both: Any) -> None:
    rows = make_rows()
    change(rows)
    whole, parts, (_, second) = both(form, rows, 'key = ["id"]\n', STRICT)
    assert whole["action"] == "stop"
    for found in (whole, parts):
        for anomaly in found["evidence"]["anomalies"]:
            if anomaly["kind"] == "duplicate keys":
                anomaly["samples"] = anomaly["sample_rows"] = []  # only counted in parts
    assert parts == whole
    assert second.workspace.tables.version("rows") == -1


def test_text_among_numbers_is_named(both: Any) -> None:
    rows = make_rows()
    rows[1_500]["x"] = "many"
    whole, parts, _ = both("jsonl", rows)
    assert parts["action"] == whole["action"] == "stop"
    assert "'x'" in parts["reason"]


@pytest.mark.parametrize("form", ["csv"])
def test_without_a_schema_one_is_inferred_that_accepts_the_file(form: str, both: Any) -> None:
    whole, parts, (first, second) = both(form, make_rows(), "", "")
    assert whole["action"] == parts["action"] == "proceed"
    assert read(second) == read(first)
    types = [
        {column.name: column.type for column in session.workspace.ledger.schemas.find()[0].schema.columns}
        for session in (first, second)
    ]
    assert types[0] == types[1]


def test_a_killed_ingestion_shows_no_row_and_is_ingested_once_when_it_is_resumed(tmp_path: Path) -> None:
    session = make_project(tmp_path, SMALL)
    write(tmp_path, "csv", make_rows())
    command = [sys.executable, "-m", "tidemill", "run", "ingestion"]
    fault = os.environ | {"TIDEMILL_FAULT": "parts are written"}
    killed = subprocess.run(command, cwd=tmp_path, env=fault, capture_output=True, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL
    tables = session.workspace.tables
    assert tables.read("rows", tables.version("rows")).height == 0
    (record,) = session.workspace.ledger.runs.find(pipeline="ingestion")
    done, error = resume(session, record.id)
    assert (done.state, error) == ("done", None)
    assert tables.read("rows", tables.version("rows")).height == ROWS
    folder = next(tmp_path.glob(".tidemill/**/rows/_delta_log")).parent
    rows = sum(pl.read_parquet(file).height for file in folder.glob("*.parquet"))
    assert rows == ROWS, "the files of the killed process are gone"
