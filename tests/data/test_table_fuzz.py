"""The same table in each format has the same schema, statistics, inputs of a model, trained model and predictions.

`TIDEMILL_FUZZ_TABLES=2000 pytest tests/data/test_table_fuzz.py` tries 2,000 tables; without it, a few.

Where a format has no way to write a value, the table is compared with the table that it can write (`express`):

- CSV has no empty text: it is null.
- JSON has no decimals: they are numbers. Without rows it has no columns: it is refused.
- SQLite has no booleans (0 and 1), no decimals (numbers), and no dates: `date_formats` of its source reads its texts.
- A Delta table without rows has no batch.
"""

import os
import sqlite3
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pytest
from deltalake import write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemill.checks.inference import infer_schema
from tidemill.checks.table import check_table, convert_to_schema
from tidemill.core.columns import is_internal
from tidemill.core.feature import FeatureSet
from tidemill.core.model import Model, PredictionTask
from tidemill.core.policy import ModelPolicy, Problem, Training
from tidemill.core.schema import Schema
from tidemill.core.source import Source
from tidemill.data.encoding import encode, fit_encoding
from tidemill.data.source import FileSources
from tidemill.data.statistics import profile
from tidemill.errors import Unreadable
from tidemill.models.load import load
from tidemill.models.predictions import Predictor
from tidemill.recipes.fitting import fit
from tidemill.recipes.rows import Snapshot

TABLES = int(os.environ.get("TIDEMILL_FUZZ_TABLES", "12"))
NOW = datetime(2100, 1, 1, tzinfo=UTC)
LABEL = "the label"
LETTERS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=6)
WORDS = LETTERS.map("w{}w".format)
NAMES = st.one_of(
    st.sampled_from(
        ["count", "_time", "a.b", 'a"b', "a'b", "a b", "a,b", "{}", "select", "é", "index", "len", "value"]
    ),
    LETTERS.map("n{}n".format),
)
NULLS = st.sampled_from(["", "NA", "N/A", "null", "NULL", "NaN", "#N/A", "<NA>", "\\N"])
MICROSECOND = "%Y-%m-%d %H:%M:%S%.6f"
CLOCK = "%H:%M:%S%.f"
_CENTS = st.integers(-(10**9), 10**9) | st.integers(-99, 99)
VALUES: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "integer": (pl.Int64, st.integers(-(2**63), 2**63 - 1) | st.integers(-9, 9)),
    "number": (pl.Float64, st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([0.5, 1.0, -3.25])),
    "decimal": (pl.Decimal(18, 2), _CENTS.map(lambda cents: Decimal(cents).scaleb(-2))),
    "boolean": (pl.Boolean, st.booleans()),
    "text": (pl.String, WORDS | st.just("")),
    "date": (pl.Date, st.dates(date(1600, 1, 1), date(2900, 1, 1))),
    "time": (pl.Datetime("us"), st.datetimes(datetime(1600, 1, 1), datetime(2900, 1, 1))),
    "clock": (pl.Time, st.times()),
    "empty": (pl.Int64, st.none()),
}
TYPES = {"decimal": "number", "clock": "text"}
LABELS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "integer": (pl.Int64, st.integers(-3, 3)),
    "number": (pl.Float64, st.floats(-1e6, 1e6)),
    "decimal": VALUES["decimal"],
    "boolean": VALUES["boolean"],
    "text": (pl.String, WORDS),
}


class Table(NamedTuple):
    """A table, the kind of each column, how its CSV is written, and whether a model is trained from each format."""

    frame: pl.DataFrame
    kinds: dict[str, str]
    null: str = ""
    separator: str = ","
    trains_each: bool = False

    @property
    def task(self) -> PredictionTask:
        return "regression" if self.kinds[LABEL] in ("number", "decimal") else "classification"


@st.composite
def tables(draw: st.DrawFn) -> Table:
    """Return a table with a label; a long table repeats some values in random order."""
    names = draw(st.lists(NAMES, min_size=1, max_size=6, unique_by=str.casefold))
    rows = draw(st.sampled_from([0, 1, 2, 3, 30, 60, 300, 10_000]) if draw(st.booleans()) else st.integers(4, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    columns, kinds = [pl.Series("row number", range(rows), dtype=pl.Int64)], {"row number": "integer"}
    for name in (*names, LABEL):
        choice = LABELS if name == LABEL else VALUES
        kinds[name] = kind = draw(st.sampled_from(sorted(choice)))
        dtype, values = choice[kind]
        is_label = name == LABEL
        nullable = values if draw(st.booleans()) else st.none() | values
        distinct = draw(st.lists(nullable, min_size=2 if is_label else 1, max_size=8, unique=is_label))
        block = pl.Series(name, distinct, dtype=dtype)
        indices = random.permutation(np.resize(np.arange(len(block)), rows))  # each value, if there are enough rows
        columns.append(block[indices] if rows else block.clear())
    return Table(
        pl.DataFrame(columns), kinds, draw(NULLS), draw(st.sampled_from(",;\t|")), draw(st.integers(0, 4)) == 0
    )


def express(table: Table, form: str) -> pl.DataFrame:
    """Return the table that a format can write."""
    frame, booleans = table.frame, [name for name, kind in table.kinds.items() if kind == "boolean"]
    match form:
        case "csv":
            empty = [
                pl.when(pl.col(name) != "").then(pl.col(name))
                for name in frame.columns
                if frame.schema[name] == pl.String
            ]
            return frame.with_columns(empty)
        case "sqlite":
            return frame.with_columns(pl.col(name).cast(pl.Int64) for name in booleans)
    return frame


def write_csv(table: Table, folder: Path) -> Source:
    table.frame.write_csv(folder / "a.csv", separator=table.separator, null_value=table.null, time_format=CLOCK)
    return Source(path="a.csv", separator="" if table.separator == "," else table.separator)


def write_parquet(table: Table, folder: Path) -> Source:
    table.frame.write_parquet(folder / "a.parquet")
    return Source(path="a.parquet")


def _to_json(table: Table) -> pl.DataFrame:
    decimals = [pl.col(name).cast(pl.Float64) for name, kind in table.kinds.items() if kind == "decimal"]
    clocks = [pl.col(name).dt.to_string(CLOCK) for name, kind in table.kinds.items() if kind == "clock"]
    return table.frame.with_columns(*decimals, *clocks)


def write_jsonl(table: Table, folder: Path) -> Source:
    _to_json(table).write_ndjson(folder / "a.jsonl")
    return Source(path="a.jsonl")


def write_json(table: Table, folder: Path) -> Source:
    _to_json(table).write_json(folder / "a.json")
    return Source(path="a.json")


def write_delta(table: Table, folder: Path) -> Source:
    clocks = [pl.col(name).dt.to_string(CLOCK) for name, kind in table.kinds.items() if kind == "clock"]
    write_deltalake(str(folder / "lake"), table.frame.with_columns(clocks))
    return Source(path="lake")


def write_sqlite(table: Table, folder: Path) -> Source:
    formats = {"date": "%Y-%m-%d", "time": MICROSECOND}
    types = {"integer": "INTEGER", "boolean": "BOOLEAN", "number": "REAL", "decimal": "REAL"}
    dated = [name for name, kind in table.kinds.items() if kind in formats]
    rows = _to_json(table).with_columns(pl.col(name).dt.to_string(formats[table.kinds[name]]) for name in dated)
    columns = ['"' + name.replace('"', '""') + '" ' + types.get(table.kinds[name], "TEXT") for name in rows.columns]
    with sqlite3.connect(folder / "a.db") as database:
        database.execute(f"CREATE TABLE a ({', '.join(columns)})")
        database.executemany(f"INSERT INTO a VALUES ({', '.join('?' * len(columns))})", rows.rows())
    database.close()
    declared = {name: formats[table.kinds[name]].replace("%.6f", "%.f") for name in dated}
    return Source(path="sqlite:///a.db", table="a", date_formats=declared)


FORMATS: dict[str, Callable[[Table, Path], Source]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "json": write_json,
    "delta": write_delta,
    "sqlite": write_sqlite,
}


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
    return schema, stored.sort("row number") if rows.height else stored


def without_times(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the columns of the source; the file's times differ."""
    return rows.select(name for name in rows.columns if not is_internal(name))


def train(table: Table, rows: pl.DataFrame, folder: Path) -> Model | None:
    """Train on the rows with a label; None if a model cannot be trained on them."""
    if LABEL not in rows.columns or rows[LABEL].n_unique() < 2:
        return None
    labelled = rows.filter(pl.col(LABEL).is_not_null())
    inputs = tuple(
        column.name
        for column in without_times(rows)
        if column.name != LABEL and labelled[column.name].null_count() < labelled.height
    )
    if labelled[LABEL].n_unique() < 2:
        return None
    features, sources = FeatureSet(request=inputs), FileSources(folder, {"x": Source(path="a.parquet")})
    policy = ModelPolicy(
        problem=Problem(decision="d", source="x", label=LABEL, task=table.task), name="m", training=Training(rounds=3)
    )
    encoding = fit_encoding(labelled, inputs)
    statistics = profile(labelled.select(inputs))
    return fit(
        labelled, None, encoding, statistics, policy, features, Snapshot(table="x", version=0, known_until=NOW), sources
    )


def predict(predictor: Predictor, rows: pl.DataFrame) -> tuple[list[str | float], list[list[float]]]:
    """Return the predictions for all rows, and their probabilities."""
    predicted = predictor.predict(without_times(rows).drop(LABEL))
    return predicted.values, [] if predicted.probabilities is None else predicted.probabilities.tolist()


@given(tables())
@settings(deadline=None, max_examples=TABLES, suppress_health_check=list(HealthCheck))
def test_the_same_table_in_every_format_is_the_same(table: Table) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        plain = read_expected(table, folder)
        inferred = {column.name: column.type for column in plain.schema.columns}
        types = {name: TYPES.get(kind, kind) for name, kind in table.kinds.items()}
        assert inferred == {c.name: "empty" if is_empty(c) else types[c.name] for c in table.frame}
        for form, write in FORMATS.items():
            expressed = express(table, form)
            same = expressed.equals(table.frame) and expressed.schema == table.frame.schema
            expected = plain if same else read_expected(table._replace(frame=expressed), folder)
            source = write(table, folder)
            if not table.frame.height and form in ("jsonl", "json", "delta"):
                require_refusal(source, folder, form)
            else:
                check_format(table, expected, source, folder)


def is_empty(values: pl.Series) -> bool:
    return values.null_count() == len(values)


class Expected(NamedTuple):
    """The schema and the stored rows of a table, a model that was trained on them, and its predictions of them."""

    schema: Schema
    rows: pl.DataFrame
    model: Model | None
    predictor: Predictor | None
    predictions: tuple[list[str | float], list[list[float]]]


def read_expected(table: Table, folder: Path) -> Expected:
    """Return what a table becomes as Parquet, which can write every table."""
    schema, rows = read(write_parquet(table, folder), folder)
    model = train(table, rows, folder)
    predictor = load(model) if model else None
    predictions = predict(predictor, rows) if predictor else ([], [])
    assert predictor is None or len(predictions[0]) == table.frame.height
    return Expected(schema, rows, model, predictor, predictions)


def require_refusal(source: Source, folder: Path, form: str) -> None:
    """Require the result of a table without rows in a format that has no types or no batch for it."""
    if form == "delta":
        assert FileSources(folder, {"x": source}).batches("x", NOW) == []
        return
    with pytest.raises(Unreadable) as refused:
        read(source, folder)
    assert refused.value.cure


def check_format(table: Table, expected: Expected, source: Source, folder: Path) -> None:
    """Compare the schema, rows, statistics, inputs, model and predictions of a source with the expected ones."""
    schema, stored = read(source, folder)
    assert schema.columns == expected.schema.columns, source
    rows, expected_rows = without_times(stored), without_times(expected.rows)
    assert rows.equals(expected_rows), source
    assert profile(rows) == profile(expected_rows), source
    inputs = tuple(column.name for column in rows if not is_empty(column))
    if inputs:
        encoding = fit_encoding(rows, inputs)
        assert encoding == fit_encoding(expected_rows, inputs), source
        assert np.array_equal(encode(encoding, rows), encode(encoding, expected_rows), equal_nan=True), source
    if expected.model is None or expected.predictor is None:
        return
    assert predict(expected.predictor, stored) == expected.predictions, source
    if table.trains_each:
        model = train(table, stored, folder)
        assert model is not None
        assert model.manifest.signature == expected.model.manifest.signature, source
        assert model.files == expected.model.files, source
        assert predict(load(model), stored) == expected.predictions, source
