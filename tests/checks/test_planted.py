"""Thirty planted faults and thirty harmless variations, on real flights and on an invented clinic.

`pytest -v` on this file prints the table: a line for each, named by its kind and what was done.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tidemill.checks.drift import drift
from tidemill.checks.inference import infer_schema
from tidemill.checks.table import convert_to_schema, validate
from tidemill.core.schema import Schema
from tidemill.core.source import Source
from tidemill.data.frame import add_times
from tidemill.data.schema_file import read_schema
from tidemill.data.statistics import profile

EXAMPLE = Path(__file__).parents[2] / "examples" / "flights"
WEEK = datetime(2013, 3, 4, tzinfo=UTC)


def flights(week: int = 0) -> pl.DataFrame:
    begin = WEEK + timedelta(weeks=week)
    rows = pl.read_parquet(EXAMPLE / "data" / "flights.parquet")
    return rows.filter(pl.col("scheduled_departure").is_between(begin, begin + timedelta(days=7), closed="left"))


def clinic(seed: int = 0, rows: int = 2000) -> pl.DataFrame:
    """Patients of a clinic that there is not; the schema is inferred from the first of them."""
    random = np.random.default_rng(seed)
    age = random.integers(0, 96, rows)
    frame = pl.DataFrame(
        {
            "patient": [f"{seed}-{number}" for number in range(rows)],
            "seen": [WEEK + timedelta(minutes=int(minute)) for minute in random.integers(0, 7 * 1440, rows)],
            "age": age,
            "weight": (3 + 70 * np.minimum(age / 18, 1) + random.normal(0, 0.8, rows)).round(1),
            "ward": random.choice(["north", "south", "éast"], rows),
            "smokes": random.random(rows) < 0.2,
            "pulse": np.where(random.random(rows) < 0.1, np.nan, random.normal(75, 9, rows)),
            "note": [None] * (rows // 2) + ["stays"] * (rows - rows // 2),
        }
    )
    return frame.with_columns(pl.col("pulse").fill_nan(None))


class Table:
    """A week of rows, with the schema and the source that judge it."""

    def __init__(self, rows: pl.DataFrame, schema: Schema, source: Source) -> None:
        self.rows = rows
        self.schema = schema
        self.source = source

    def kinds(self, rows: pl.DataFrame) -> set[tuple[str, str]]:
        """The anomalies of rows that arrived after that week; where there are none, the rows can be let in."""
        arrived = WEEK + timedelta(days=14)
        placed = add_times(rows, self.source, self.schema.source, arrived, lenient=True)
        verdict = validate(placed, self.schema, "planted", self.source, arrived)
        found = {(one["column"], one["kind"]) for one in verdict.evidence["anomalies"]}
        assert verdict.action == ("stop" if found else "proceed")
        if not found:
            convert_to_schema(placed, self.schema)
        return found


TABLES = {
    "flights": Table(
        flights(),
        read_schema(EXAMPLE / "schemas" / "flights.toml"),
        Source(path="", time="scheduled_departure", key=("flight_id",)),
    ),
    "clinic": Table(
        clinic(1),
        infer_schema(clinic(), "clinic", key=("patient",)),
        Source(path="", time="seen", key=("patient",)),
    ),
}
Change = Callable[[pl.DataFrame], pl.DataFrame]


def on(rows: str, value: Any) -> Change:
    """One column of every hundredth row gets another value."""
    return lambda frame: frame.with_columns(
        pl.when(pl.int_range(pl.len()) % 100 == 0).then(pl.lit(value)).otherwise(pl.col(rows)).alias(rows)
    )


def column(name: str, change: Callable[[pl.Expr], pl.Expr]) -> Change:
    return lambda frame: frame.with_columns(change(pl.col(name)).alias(name))


def nulls(name: str, share: float) -> Change:
    return lambda frame: frame.with_columns(
        pl.when(pl.int_range(pl.len()) < share * pl.len()).then(None).otherwise(pl.col(name)).alias(name)
    )


FAULTS: dict[str, tuple[str, Change, tuple[str, str]]] = {
    "unexpected: a number": ("flights", lambda f: f.with_columns(wind=1.5), ("wind", "unexpected column")),
    "unexpected: a renamed one": ("flights", lambda f: f.rename({"dest": "to"}), ("to", "unexpected column")),
    "unexpected: another case": ("clinic", lambda f: f.with_columns(Age=1), ("Age", "unexpected column")),
    "unexpected: an index": ("clinic", lambda f: f.with_row_index("index"), ("index", "unexpected column")),
    "unexpected: all null": ("clinic", lambda f: f.with_columns(x=None), ("x", "unexpected column")),
    "missing: an input": ("flights", lambda f: f.drop("distance"), ("distance", "missing column")),
    "missing: the key": ("flights", lambda f: f.drop("flight_id"), ("flight_id", "missing column")),
    "missing: the event time": (
        "flights",
        lambda f: f.drop("scheduled_departure"),
        ("scheduled_departure", "missing column"),
    ),
    "missing: a space in its name": ("clinic", lambda f: f.rename({"age": "age "}), ("age", "missing column")),
    "missing: the label": ("clinic", lambda f: f.drop("smokes"), ("smokes", "missing column")),
    "type: a unit in a number": (
        "flights",
        column("distance", lambda c: c.cast(pl.String) + " mi"),
        ("distance", "wrong type"),
    ),
    "type: fractions of whole numbers": ("flights", column("hour", lambda c: c + 0.5), ("hour", "wrong type")),
    "type: text for a flag": ("clinic", column("smokes", lambda c: c.cast(pl.String)), ("smokes", "wrong type")),
    "type: decimal commas": (
        "clinic",
        column("weight", lambda c: c.cast(pl.String).str.replace(".", ",", literal=True)),
        ("weight", "wrong type"),
    ),
    "type: words for times": ("clinic", column("seen", lambda _: pl.lit("yesterday")), ("seen", "wrong type")),
    "outside: an airport elsewhere": ("flights", on("origin", "CDG"), ("origin", "outside domain")),
    "outside: another spelling": ("flights", on("origin", "jfk"), ("origin", "outside domain")),
    "outside: an hour 24": ("flights", on("hour", 24), ("hour", "above range")),
    "outside: kilometres a thousandfold": (
        "flights",
        column("distance", lambda c: c.cast(pl.Int64) * 1000),
        ("distance", "above range"),
    ),
    "outside: grams for kilograms": ("clinic", column("weight", lambda c: c * 1000), ("weight", "above range")),
    "nulls: where there may be none": ("flights", on("carrier", None), ("carrier", "missing values")),
    "nulls: most tail numbers": ("flights", nulls("tailnum", 0.6), ("tailnum", "missing values")),
    "nulls: half of a full column": ("clinic", nulls("age", 0.5), ("age", "missing values")),
    "nulls: thrice as many": ("clinic", nulls("pulse", 0.4), ("pulse", "missing values")),
    "nulls: all of a column": ("clinic", column("ward", lambda _: pl.lit(None)), ("ward", "missing values")),
    "impossible: a file twice in one": ("flights", lambda f: pl.concat([f, f]), ("flight_id", "duplicate keys")),
    "impossible: one key for many": ("clinic", on("patient", "1-0"), ("patient", "duplicate keys")),
    "impossible: negative ages": ("clinic", on("age", -1), ("age", "below range")),
    "impossible: numbers that are none": ("clinic", on("weight", float("nan")), ("weight", "not finite")),
    "impossible: times to come": (
        "clinic",
        column("seen", lambda c: c.dt.offset_by("30d")),
        ("seen", "time in the future"),
    ),
}

HARMLESS: dict[str, tuple[str, Change]] = {
    "nothing changed": ("flights", lambda f: f),
    "another week": ("flights", lambda _: flights(1)),
    "columns in another order": ("flights", lambda f: f.select(reversed(f.columns))),
    "rows in another order": ("flights", lambda f: f.sample(fraction=1, shuffle=True, seed=1)),
    "a single row": ("flights", lambda f: f.head(1)),
    "a new airline": ("flights", on("carrier", "ZZ")),
    "new tail numbers": ("flights", column("tailnum", lambda c: "N" + c.str.reverse())),
    "a destination in Unicode": ("flights", on("dest", "Kraków 🛬")),
    "a third of the tail numbers null": ("flights", nulls("tailnum", 0.33)),
    "labels not known yet": ("flights", lambda f: f.with_columns(late=None, landed=None, arr_delay=None)),
    "wider integers": ("flights", lambda f: f.cast({pl.Int8: pl.Int64, pl.Int16: pl.Int32})),
    "unsigned integers": ("flights", column("hour", lambda c: c.cast(pl.UInt8))),
    "times in another zone": ("flights", column("scheduled_departure", lambda c: c.dt.convert_time_zone("Asia/Tokyo"))),
    "times in nanoseconds": ("flights", column("landed", lambda c: c.cast(pl.Datetime("ns", "UTC")))),
    "times as text": ("flights", column("landed", lambda c: c.dt.strftime("%Y-%m-%dT%H:%M:%SZ"))),
    "categories": ("flights", column("carrier", lambda c: c.cast(pl.Categorical))),
    "floats of 32 bits": ("flights", column("distance", lambda c: c.cast(pl.Float32))),
    "the longest delay so far": ("flights", on("arr_delay", 1500)),
    "through CSV": ("flights", lambda f: pl.read_csv(f.write_csv().encode(), try_parse_dates=True)),
    "through pandas": ("clinic", lambda f: pl.from_pandas(f.to_pandas())),
    "other patients": ("clinic", lambda _: clinic(2)),
    "a few patients": ("clinic", lambda _: clinic(3, 25)),
    "older than any before": ("clinic", on("age", 111)),
    "twice as many nulls": ("clinic", nulls("pulse", 0.1)),
    "a few nulls in a full column": ("clinic", nulls("age", 0.03)),
    "a note for nobody": ("clinic", column("note", lambda _: pl.lit(None, pl.String))),
    "a ward more": ("clinic", on("ward", "west")),
    "extra precision": ("clinic", column("weight", lambda c: c + 1e-9)),
    "whole weights": ("clinic", column("weight", lambda c: c.round(0).cast(pl.Int64))),
    "numbers as text": ("clinic", column("weight", lambda c: c.cast(pl.String))),
}


def test_there_are_thirty_of_each() -> None:
    assert len(FAULTS) == len(HARMLESS) == 30


@pytest.mark.parametrize(("table", "plant", "anomaly"), FAULTS.values(), ids=FAULTS)
def test_a_planted_fault_stops(table: str, plant: Change, anomaly: tuple[str, str]) -> None:
    rows = TABLES[table].rows
    assert anomaly in TABLES[table].kinds(plant(rows))


@pytest.mark.parametrize(("table", "vary"), HARMLESS.values(), ids=HARMLESS)
def test_a_harmless_variation_is_accepted(table: str, vary: Change) -> None:
    assert TABLES[table].kinds(vary(TABLES[table].rows)) == set()


SKEWED: dict[str, tuple[str, Change]] = {
    "shorter flights": ("flights", column("distance", lambda c: (c * 0.8).cast(pl.Int64))),
    "one airline takes over": (
        "flights",
        lambda f: f.with_columns(
            carrier=pl.when(pl.int_range(pl.len()) % 4 == 0).then(pl.lit("ZZ")).otherwise("carrier")
        ),
    ),
    "no tail numbers any more": ("flights", nulls("tailnum", 0.4)),
    "older patients": ("clinic", column("age", lambda c: (c * 0.7 + 28).cast(pl.Int64))),
}


@pytest.mark.parametrize(("table", "skew"), SKEWED.values(), ids=SKEWED)
def test_skewed_values_call_for_retraining_and_stop_nothing(table: str, skew: Change) -> None:
    rows = TABLES[table].rows
    reference = profile(rows)
    skewed = skew(rows)
    assert TABLES[table].kinds(skewed) == set()
    verdict = drift(profile(skewed, reference), reference, subject=table, limit=0.0, action="retrain", minimum=200)
    assert (verdict.outcome, verdict.action) == ("fail", "retrain")
