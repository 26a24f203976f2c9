"""The same table in CSV, Parquet, JSON Lines, Delta and SQLite has the same schema, statistics and inputs of a model.

`TIDEMILL_FUZZ_TABLES=2000 pytest tests/data/test_table_fuzz.py` tries 2,000 tables; without it, a few.
"""

import os
import sqlite3
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
from deltalake import write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemill.checks.inference import infer_schema
from tidemill.checks.table import check_table, convert_to_schema
from tidemill.core.columns import is_internal
from tidemill.core.schema import Schema
from tidemill.core.source import Source
from tidemill.data.encoding import encode, fit_encoding
from tidemill.data.source import FileSources
from tidemill.data.statistics import profile

TABLES = int(os.environ.get("TIDEMILL_FUZZ_TABLES", "12"))
NOW = datetime(2100, 1, 1, tzinfo=UTC)
LETTERS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)
WORDS = LETTERS.map("w{}w".format)
NAMES = st.one_of(
    st.sampled_from(
        ["count", "_time", "a.b", 'a"b', "a'b", "a b", "a,b", "{}", "select", "é", "index", "len", "value"]
    ),
    LETTERS.map("n{}n".format),
)
VALUES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "integer": (pl.Int64, st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9)),
    "number": (pl.Float64, st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.5, 1.0, -3.25])),
    "boolean": (pl.Boolean, st.booleans()),
    "text": (pl.String, WORDS),
    "date": (pl.Date, st.dates(date(1600, 1, 1), date(2900, 1, 1))),
    "time": (pl.Datetime("us"), st.datetimes(datetime(1600, 1, 1), datetime(2900, 1, 1))),
    "empty": (pl.Int64, st.none()),
}
IN_SQLITE = ("integer", "number", "text", "empty")


@st.composite
def tables(draw: st.DrawFn) -> tuple[pl.DataFrame, dict[str, str]]:
    """Return a table and the kind of each of its columns; a long table repeats some values in random order."""
    names = draw(st.lists(NAMES, min_size=1, max_size=6, unique_by=str.casefold))
    rows = draw(st.sampled_from([0, 1, 2, 3, 30, 300, 10_000]) if draw(st.booleans()) else st.integers(0, 40))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    columns, kinds = [pl.Series("row number", range(rows), dtype=pl.Int64)], {"row number": "integer"}
    for name in names:
        kinds[name] = kind = draw(st.sampled_from(sorted(VALUES)))
        dtype, values = VALUES[kind]
        distinct = draw(st.lists(values if draw(st.booleans()) else st.none() | values, min_size=1, max_size=8))
        block = pl.Series(name, distinct, dtype=dtype)
        columns.append(block[random.integers(0, len(block), rows)] if rows else block.clear())
    return pl.DataFrame(columns), kinds


def write_all(frame: pl.DataFrame, kinds: dict[str, str], folder: Path) -> dict[str, tuple[Source, list[str]]]:
    """Write a table in every format; return each source with the columns that it can express."""
    everything = frame.columns
    frame.write_csv(folder / "a.csv")
    frame.write_parquet(folder / "a.parquet")
    sources = {
        "parquet": (Source(path="a.parquet"), everything),
        "csv": (Source(path="a.csv"), everything),
    }
    if frame.height:  # without rows, JSON Lines have no columns and a Delta table has no batch
        write_deltalake(str(folder / "lake"), frame)
        sources["delta"] = (Source(path="lake"), everything)
        frame.write_ndjson(folder / "a.jsonl")
        sources["jsonl"] = (Source(path="a.jsonl"), everything)
    names = [name for name in everything if kinds[name] in IN_SQLITE]
    quoted = ['"' + name.replace('"', '""') + '"' for name in names]
    types = [{"integer": "INTEGER", "number": "REAL"}.get(kinds[name], "TEXT") for name in names]
    with sqlite3.connect(folder / "a.db") as database:
        columns = ", ".join(f"{name} {kind}" for name, kind in zip(quoted, types, strict=True))
        database.execute(f"CREATE TABLE a ({columns})")
        marks = ", ".join("?" * len(names))
        database.executemany(f"INSERT INTO a VALUES ({marks})", frame.select(names).rows())
    database.close()
    sources["sqlite"] = (Source(path="sqlite:///a.db", table="a"), names)
    return sources


def read(source: Source, folder: Path) -> tuple[Schema, pl.DataFrame]:
    """Return the schema that is inferred from a source, and its rows as they are stored."""
    sources = FileSources(folder, {"x": source})
    (batch,) = sources.batches("x", NOW)
    rows = sources.read(batch)
    schema = infer_schema(rows, "x")
    verdict, _ = check_table(rows, schema, "x")
    kinds = {anomaly["kind"] for anomaly in verdict.evidence["anomalies"]}
    assert kinds <= ({"too few rows"} if not rows.height else set()), verdict.reason
    again = sources.read(batch) if batch.path.startswith("sqlite") else rows
    stored = convert_to_schema(again, schema)
    stored = stored.select(name for name in stored.columns if not is_internal(name))
    return schema, stored.sort("row number") if rows.height else stored


@given(tables())
@settings(deadline=None, max_examples=TABLES, suppress_health_check=list(HealthCheck))
def test_the_same_table_in_every_format_is_the_same(table: tuple[pl.DataFrame, dict[str, str]]) -> None:
    frame, kinds = table
    with TemporaryDirectory() as name:
        folder = Path(name)
        sources = write_all(frame, kinds, folder)
        expected_schema, expected = read(sources["parquet"][0], folder)
        inferred = {column.name: column.type for column in expected_schema.columns}
        has_values = {c: frame[c].null_count() < frame.height for c in frame.columns}
        assert inferred == {c: kinds[c] if has_values[c] else "empty" for c in frame.columns}
        for form, (source, columns) in sources.items():
            schema, stored = read(source, folder)
            assert schema.columns == tuple(c for c in expected_schema.columns if c.name in columns), form
            kept = [column for column in expected.columns if column in columns]
            assert stored.equals(expected.select(kept)), form
            assert profile(stored) == profile(expected.select(kept)), form
            inputs = tuple(column for column in kept if has_values[column])
            if inputs:
                encoding = fit_encoding(stored, inputs)
                assert encoding == fit_encoding(expected, inputs), form
                assert np.array_equal(encode(encoding, stored), encode(encoding, expected), equal_nan=True), form
