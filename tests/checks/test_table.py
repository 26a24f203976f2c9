"""The schema gate: what cannot be stops, and what is merely different passes."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tidemill.checks.inference import infer_schema, widen_schema
from tidemill.checks.table import WHY, check_table, convert_to_schema, validate
from tidemill.core.schema import Column, Schema
from tidemill.core.source import Source
from tidemill.data.frame import add_times
from tidemill.errors import DataError, Unreadable

SCHEMA = Schema(
    source="flights",
    columns=(
        Column(name="id", type="integer", missing=0.0),
        Column(name="distance", type="number", low=0.0, high=5000.0, missing=0.1),
        Column(name="carrier", type="text", domain=("AA", "UA")),
        Column(name="night", type="boolean"),
        Column(name="when", type="time"),
        Column(name="born", type="date"),
        Column(name="tags", type="nested"),
        Column(name="note", type="text", required=False),
    ),
    key=("id",),
)
GOOD = pl.DataFrame(
    {
        "id": range(20),
        "distance": [100.0 * place for place in range(19)] + [None],
        "carrier": ["AA", "UA"] * 10,
        "night": [True, False] * 10,
        "when": [datetime(2013, 3, 1, tzinfo=UTC)] * 20,
        "born": [date(1999, 1, 31)] * 20,
        "tags": [["a"], []] * 10,
    }
)


def found(frame: pl.DataFrame, schema: Schema = SCHEMA) -> list[tuple[str, str, int]]:
    """The anomalies: column, kind, rows."""
    verdict = validate(frame, schema, "flights.csv")
    anomalies = verdict.evidence["anomalies"]
    assert (verdict.action, verdict.outcome) == (("stop", "fail") if anomalies else ("proceed", "pass"))
    return [(one["column"], one["kind"], one["rows"]) for one in anomalies]


def with_values(name: str, values: list[Any], kind: Any = None) -> pl.DataFrame:
    """The good rows with other values in the first of them, the column as it is or in another type."""
    rest = GOOD[name].cast(kind) if kind else GOOD[name]
    return GOOD.with_columns(pl.Series(name, values + rest.to_list()[len(values) :], strict=False))


BAD: dict[str, tuple[pl.DataFrame, tuple[str, str, int]]] = {
    "missing column": (GOOD.drop("distance"), ("distance", "missing column", 0)),
    "unexpected column": (GOOD.with_columns(wind=1), ("wind", "unexpected column", 20)),
    "text for a number": (
        GOOD.with_columns(distance=pl.lit("far")),
        ("distance", "wrong type", 20),
    ),
    "number for text": (GOOD.with_columns(carrier=pl.lit(1)), ("carrier", "wrong type", 20)),
    "fraction for a whole number": (GOOD.with_columns(pl.col("id") + 0.5), ("id", "wrong type", 20)),
    "text for a time": (GOOD.with_columns(when=pl.lit("soon")), ("when", "wrong type", 20)),
    "a time that is read differently here and there": (
        with_values("when", ["04/09/2013 10:00", "25.04.2013 10:00"], pl.String),
        ("when", "wrong type", 2),
    ),
    "a day first date": (with_values("born", ["31.01.2013"], pl.String), ("born", "wrong type", 1)),
    "a date with an hour": (
        GOOD.with_columns(born=pl.lit(datetime(1999, 1, 31, 7))),
        ("born", "wrong type", 20),
    ),
    "lists of text for text": (GOOD.with_columns(carrier=pl.lit(["AA"])), ("carrier", "wrong type", 20)),
    "text for lists": (GOOD.with_columns(tags=pl.lit("a")), ("tags", "wrong type", 20)),
    "too many nulls": (with_values("distance", [None] * 7), ("distance", "missing values", 8)),
    "more nulls than chance gives three rows": (
        with_values("distance", [None] * 3)[:3],
        ("distance", "missing values", 3),
    ),
    "whole numbers that no float holds": (GOOD.with_columns(pl.col("id") * 1e16), ("id", "wrong type", 20)),
    "a null where none may be": (with_values("id", [None]), ("id", "missing values", 1)),
    "below range": (with_values("distance", [-1.0, -2.0]), ("distance", "below range", 2)),
    "above range": (with_values("distance", [5000.1]), ("distance", "above range", 1)),
    "endless": (with_values("distance", [float("inf")]), ("distance", "not finite", 1)),
    "not a number": (with_values("distance", [float("nan")]), ("distance", "not finite", 1)),
    "no rows": (GOOD.clear(), ("", "too few rows", 0)),
    "outside the domain": (with_values("carrier", ["ZZ", "aa"]), ("carrier", "outside domain", 2)),
    "a key twice": (with_values("id", [1]), ("id", "duplicate keys", 1)),
}


@pytest.mark.parametrize(("frame", "anomaly"), BAD.values(), ids=BAD)
def test_each_anomaly_is_found_alone(frame: pl.DataFrame, anomaly: tuple[str, str, int]) -> None:
    assert found(frame) == [anomaly]
    assert (repr(anomaly[0]) if anomaly[0] else "it has 0 rows") in validate(frame, SCHEMA, "flights.csv").reason


FINE = {
    "as it was": GOOD,
    "numbers as text": GOOD.with_columns(pl.col("distance").cast(pl.String)),
    "times as text": GOOD.with_columns(when=pl.lit("2013-03-01T10:00:00+01:00")),
    "times as text in several ways": with_values(
        "when",
        ["2013-03-01 10:00", "2013/03/01 10:00:01,5", "2013-03-01T10:00Z", "2013-03-01", "2013-03-01 10:00:00+00"],
        pl.String,
    ),
    "dates as text": GOOD.with_columns(pl.col("born").cast(pl.String)),
    "dates as midnights": GOOD.with_columns(pl.col("born").cast(pl.Datetime("ns"))),
    "dates for times": GOOD.with_columns(pl.col("when").dt.date()),
    "one row": GOOD[:1],
    "columns in another order": GOOD.select(reversed(GOOD.columns)),
    "whole numbers in a column of numbers": GOOD.with_columns(pl.col("distance").cast(pl.Int64)),
    "smaller integers": GOOD.with_columns(pl.col("id").cast(pl.UInt8)),
    "unsigned numbers": GOOD.with_columns(pl.col("id").cast(pl.UInt64)),
    "a column that may be absent": GOOD.with_columns(note=pl.lit("x")),
    "lists of nulls": GOOD.with_columns(tags=pl.lit(None)),
    "a column of nulls": GOOD.with_columns(night=pl.lit(None)),
    "times without a zone": GOOD.with_columns(pl.col("when").dt.replace_time_zone(None)),
    "whole numbers with a point": GOOD.with_columns(pl.col("id").cast(pl.Float64)),
    "decimals": GOOD.with_columns(pl.col("id").cast(pl.Decimal(10, 2)), pl.col("distance").cast(pl.Decimal(10, 2))),
    "as many nulls as chance gives twenty rows": with_values("distance", [None] * 3),
    "a row with a null": with_values("distance", [None])[:1],
    "bounds themselves": with_values("distance", [0.0, 5000.0]),
    "a few nulls": with_values("distance", [None]),
    "categories": GOOD.with_columns(pl.col("carrier").cast(pl.Categorical)),
    "columns of the house": GOOD.with_columns(_tidemill_time=pl.lit(0)),
}


@pytest.mark.parametrize("frame", FINE.values(), ids=FINE)
def test_harmless_variations_pass(frame: pl.DataFrame) -> None:
    assert found(frame) == []


def test_extra_columns_may_be_accepted() -> None:
    schema = Schema(source="flights", columns=SCHEMA.columns, extra_columns="ignore")
    assert found(GOOD.with_columns(wind=1), schema) == []


def test_several_anomalies_are_all_reported_with_samples() -> None:
    frame = with_values("distance", [-7.0] * 8).with_columns(carrier=pl.lit("ZZ"), wind=1)
    verdict = validate(frame, SCHEMA, "flights.csv")
    kinds = {one["kind"] for one in verdict.evidence["anomalies"]}
    assert kinds == {"unexpected column", "below range", "outside domain"}
    assert "and 2 more" in verdict.reason
    below = next(one for one in verdict.evidence["anomalies"] if one["kind"] == "below range")
    assert (below["samples"], below["rows"]) == (["-7.0"], 8)
    assert "8 of 20 values below 0" in below["what"]


columns = st.one_of(
    st.lists(st.none() | st.integers(-(2**40), 2**40), min_size=3, max_size=3).map(
        lambda v: pl.Series(v, dtype=pl.Int64)
    ),
    st.lists(st.none() | st.floats(), min_size=3, max_size=3).map(lambda v: pl.Series(v, dtype=pl.Float64)),
    st.lists(st.none() | st.text(), min_size=3, max_size=3).map(lambda v: pl.Series(v, dtype=pl.String)),
    st.lists(st.none() | st.booleans(), min_size=3, max_size=3).map(lambda v: pl.Series(v, dtype=pl.Boolean)),
    st.lists(st.none() | st.dates(), min_size=3, max_size=3).map(lambda v: pl.Series(v, dtype=pl.Date)),
    st.lists(st.none() | st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)), min_size=3, max_size=3).map(
        lambda v: pl.Series(v, dtype=pl.Datetime("us"))
    ),
    st.just(pl.Series([None, None, None])),
    st.just(pl.Series([[1], None, []])),
)


@given(st.lists(columns, min_size=1, max_size=5))
@settings(deadline=None)
def test_an_inferred_schema_fits_its_own_rows(series: list[pl.Series]) -> None:
    frame = pl.DataFrame([one.alias(f"c{place}") for place, one in enumerate(series)])
    schema = infer_schema(frame, "rows", key=("c0",))
    assert found(frame, schema) == []
    assert found(frame.reverse(), schema) == []
    assert found(convert_to_schema(frame, schema), schema) == []


def test_an_inferred_schema_lets_somewhat_later_rows_in_and_keeps_nonsense_out() -> None:
    frame = GOOD.with_columns(day=pl.lit(date(2013, 3, 1)))
    schema = infer_schema(frame, "flights", key=("id",))
    assert schema.key == ("id",)
    later = frame.with_columns(pl.col("id") + 20, pl.col("distance") * 1.5, carrier=pl.lit("DL"))
    assert found(later, schema) == []
    assert found(frame.with_columns(pl.col("distance") * 1000), schema)[0][:2] == ("distance", "above range")
    assert found(frame.with_columns(-pl.col("distance") - 1), schema)[0][:2] == ("distance", "below range")
    assert found(frame.with_columns(id=pl.lit(None, pl.Int64)), schema)[0][:2] == ("id", "missing values")


def test_of_what_places_rows_in_time_none_may_be_missing_unless_some_was() -> None:
    frame = GOOD.with_columns(known=pl.when(pl.col("id") > 0).then("when"))
    schema = infer_schema(frame, "rows", times=("when", "known"))
    assert [column.missing for column in schema.columns if column.name in ("night", "when", "known")] == [0.05, 0, 0.15]
    assert found(frame.with_columns(pl.when(pl.col("id") > 0).then("when").alias("when")), schema) == [
        ("when", "missing values", 1)
    ]


def test_ids_grow_and_what_is_known_later_may_be_null() -> None:
    rows = GOOD.with_columns(
        number=pl.int_range(100, 120), moment=pl.lit("2013-03-01T11:00:00Z"), landed=pl.lit("2013-03-01")
    )
    schema = infer_schema(rows, "flights", key=("id",), times=("moment", "carrier"), later=("night",))
    kinds = {column.name: column.type for column in schema.columns}
    assert (kinds["moment"], kinds["carrier"], kinds["landed"]) == ("time", "text", "text")
    later = rows.with_columns(pl.col("id") + 10**6, pl.col("number") + 10**6, night=None)
    days = infer_schema(rows.with_columns(landed=pl.lit(date(2013, 3, 1))), "flights")
    assert found(rows, days) == []
    assert convert_to_schema(rows, days)["landed"].dtype == pl.Date
    assert found(rows.with_columns(landed=pl.lit("1 March")), days)[0][:2] == ("landed", "wrong type")
    typed = later.with_columns(moment=pl.lit(datetime(2013, 3, 2, tzinfo=UTC)))
    assert found(later, schema) == found(typed, schema) == []
    assert convert_to_schema(later, schema)["moment"].dtype == convert_to_schema(typed, schema)["moment"].dtype
    assert found(later.with_columns(-pl.col("number")), schema)[0][:2] == ("number", "below range")


TAILS: dict[str, Any] = {
    "even": lambda random, rows: random.uniform(3, 5, rows),
    "prices": lambda random, rows: random.lognormal(3, 1.5, rows),
    "waiting times": lambda random, rows: random.exponential(5, rows),
    "returns": lambda random, rows: random.standard_t(3, rows),
    "rare counts": lambda random, rows: random.poisson(0.05, rows),
}


@pytest.mark.parametrize("draw", TAILS.values(), ids=TAILS)
def test_later_values_of_the_same_kind_are_inside_an_inferred_range(draw: Any) -> None:
    random = np.random.default_rng(1)
    stopped = 0
    for _ in range(50):
        schema = infer_schema(pl.DataFrame({"x": draw(random, 1000)}), "rows")
        later = draw(random, 1000)
        stopped += bool(found(pl.DataFrame({"x": later}), schema))
        assert found(pl.DataFrame({"x": later * 1e6 + 1e6}), schema)
    assert stopped <= 1


ODD = {
    "times of day": pl.Series([time(10, place) for place in range(20)]),
    "durations": pl.Series([timedelta(minutes=place) for place in range(20)]),
    "huge numbers": pl.Series([2**70 + place for place in range(20)], dtype=pl.Int128),
    "decimals": pl.Series([Decimal(place) / 4 for place in range(20)]),
    "lists": pl.Series([["a"], []] * 10),
    "records": pl.Series([{"a": 1, "b": None}] * 20),
    "empty lists": pl.Series([[]] * 20),
    "bytes": pl.Series([b"x"] * 20),
}


@pytest.mark.parametrize("values", ODD.values(), ids=ODD)
def test_odd_types_stand_in_a_table_or_are_reported(values: pl.Series, tmp_path: Path) -> None:
    frame = GOOD.with_columns(values.alias("odd"))
    if values.dtype == pl.Int128:
        with pytest.raises(Unreadable, match=r"column 'odd' of the table has the type Int128 .* do not fit in Int64"):
            infer_schema(frame, "rows")
        return
    schema = infer_schema(frame, "rows")
    assert found(frame, schema) == []
    kept = convert_to_schema(frame, schema)
    assert kept["odd"].null_count() == 0
    kept.write_delta(tmp_path)
    assert found(kept, schema) == []


def test_the_rows_that_cannot_be_read_are_reported_where_most_can() -> None:
    late = GOOD.with_columns(when=pl.Series(["2013-03-01T10:00:00Z"] * 19 + ["soon"]), distance=pl.lit("far"))
    verdict, bad = check_table(late, SCHEMA, "flights.csv")
    anomalies = {one["column"]: one for one in verdict.evidence["anomalies"]}
    assert (anomalies["when"]["rows"], anomalies["when"]["samples"], anomalies["distance"]["rows"]) == (1, ["soon"], 20)
    assert anomalies["when"]["sample_rows"][0]["row"] == "19"
    assert len(anomalies["distance"]["sample_rows"]) == 3
    assert bad.filter(pl.col(WHY).str.contains("when"))["id"].to_list() == [19]


def test_a_key_that_is_not_unique_or_not_there() -> None:
    assert infer_schema(GOOD, "flights", key=("carrier",)).key == ()
    with pytest.raises(DataError, match="'flights' has no key column 'flight_id'") as raised:
        infer_schema(GOOD, "flights", key=("flight_id",))
    assert "carrier" in raised.value.cure


def test_rows_without_their_key_are_no_repetition_and_hide_none() -> None:
    rows = pl.DataFrame({"id": [1, 2, None, None], "x": [0.5, 0.6, 0.7, 0.8]})
    schema = infer_schema(rows, "rows", ("id",))
    assert schema.key == ("id",)
    assert check_table(rows, schema, "rows/1")[0].action == "proceed"
    verdict, bad = check_table(rows.with_columns(id=pl.Series([2, 2, None, None])), schema, "rows/2")
    assert "has 1 duplicate key" in verdict.reason
    assert bad.height == 2


def test_the_bad_rows_come_with_the_verdict_and_say_why_they_are_bad() -> None:
    frame = with_values("distance", [-7.0, 5.0]).with_columns(carrier=pl.Series(["ZZ"] + ["AA"] * 19))
    verdict, bad = check_table(frame, SCHEMA, "flights.csv")
    assert bad.select("id", WHY).rows() == [(0, "distance: below range; carrier: outside domain")]
    (below,) = (one for one in verdict.evidence["anomalies"] if one["kind"] == "below range")
    assert below["sample_rows"][0] | {"row": "0", "id": "0", "distance": "-7.0"} == below["sample_rows"][0]
    assert check_table(frame.with_columns(wind=1), SCHEMA, "flights.csv")[1].height == 20
    assert check_table(GOOD, SCHEMA, "flights.csv")[1].is_empty()


TIMED = Source(path="*.csv", time="when")
NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


def timed(*when: str | None) -> pl.DataFrame:
    frame = GOOD[: len(when)].with_columns(when=pl.Series(when, dtype=pl.String))
    return add_times(frame, TIMED, "flights", NOON, lenient=True)


def test_times_that_cannot_be_read_or_have_not_come_yet_are_found() -> None:
    schema = replace(SCHEMA, columns=tuple(c for c in SCHEMA.columns if c.name != "when"), extra_columns="ignore")
    early, late, soon = "2013-03-01T11:00:00Z", "2013-03-02T13:00:00Z", "2013-03-02T11:00:00Z"
    for frame, wanted in (
        (timed(early, "soon"), [("when", "unreadable time", 1)]),
        (timed("soon", "later"), [("when", "unreadable time", 2)]),
        (timed(early, None), []),
        (timed(early, late), [("when", "time in the future", 1)]),
        (timed(early, soon), []),
        (add_times(GOOD.drop("when"), TIMED, "flights", NOON, lenient=True), [("when", "missing column", 0)]),
    ):
        verdict = validate(frame, schema, "flights.csv", TIMED, NOON)
        assert [(a["column"], a["kind"], a["rows"]) for a in verdict.evidence["anomalies"]] == wanted
    unbounded = replace(schema, ahead="")
    assert not validate(timed(early, late), unbounded, "flights.csv", TIMED, NOON).stops


@pytest.mark.parametrize("frame", [one for one, _ in BAD.values()], ids=BAD)
def test_what_a_person_accepts_is_accepted_then_and_what_was_fine_still_is(frame: pl.DataFrame) -> None:
    wider = widen_schema(SCHEMA, frame)
    assert wider.version == 2
    assert found(frame, wider) == []
    assert found(convert_to_schema(frame, wider), wider) == []


def test_unreadable_times_cannot_be_accepted() -> None:
    with pytest.raises(DataError, match="no schema of 'flights' accepts these rows: 'when'"):
        widen_schema(infer_schema(timed(None, None), "flights"), timed("soon", None), TIMED)


def test_rows_are_brought_to_the_types_that_their_schema_means() -> None:
    same = GOOD.with_columns(pl.col("distance").cast(pl.String), pl.col("carrier").cast(pl.Categorical), night=None)
    other = convert_to_schema(same.with_columns(pl.col("when").dt.strftime("%Y-%m-%dT%H:%M:%SZ")), SCHEMA)
    assert other.schema == GOOD.schema
    assert other.drop("night").equals(GOOD.drop("night"))


@pytest.mark.parametrize(
    ("name", "values", "ends"),
    [
        ("degrees of a summer", lambda random: random.normal(18, 4, 90).clip(1), False),
        ("degrees that only came close to 0", lambda random: np.abs(random.normal(50, 18, 2000)) + 0.2, False),
        ("whole degrees of a summer", lambda random: random.integers(8, 31, 120), False),
        ("distances", lambda random: random.lognormal(6.5, 0.7, 2000), True),
        ("amounts", lambda random: random.exponential(30, 2000), True),
        ("rain", lambda random: random.exponential(3, 900) * (random.random(900) < 0.2), True),
        ("shares", lambda random: random.random(300), True),
        ("counts", lambda random: random.poisson(4, 500), True),
        ("weekdays", lambda random: random.integers(1, 8, 500), True),
    ],
)
def test_zero_is_the_lowest_value_only_where_values_end_there(
    name: str, values: Callable[[np.random.Generator], Any], ends: bool
) -> None:
    """A table of a warm season does not stop the first frost; a negative amount, count or share is stopped."""
    for seed in range(20):
        frame = pl.DataFrame({"x": values(np.random.default_rng(seed))})
        column = infer_schema(frame, "source").column("x")
        assert column is not None
        low = column.low
        assert low is not None
        assert (low >= 0) == ends, f"{name}: {low}"
