"""Every type of Polars and Arrow: the same values in the table, or a refusal that names the column and its type."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tidemill.checks.inference import infer_schema
from tidemill.checks.table import check_table, convert_to_schema
from tidemill.core.source import Source
from tidemill.data.frame import add_times
from tidemill.data.kinds.frames import to_polars
from tidemill.data.storable import to_storable
from tidemill.data.tables import read_table
from tidemill.errors import TidemillError, Unreadable
from tidemill.journal.tables import DeltaTables

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


class Kind(NamedTuple):
    """A type, its values, and the value that the table must contain for each."""

    dtype: Any
    values: st.SearchStrategy[Any]
    stored: Callable[[Any], Any] = lambda value: value


def integers(bits: int, *, signed: bool) -> st.SearchStrategy[int]:
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return st.integers(max(low, -(2**63)), min(high, 2**63 - 1))


def decimals(digits: int, places: int) -> st.SearchStrategy[Decimal]:
    return st.integers(-(10**digits) + 1, 10**digits - 1).map(lambda number: Decimal(number).scaleb(-places))


def utc(value: datetime) -> datetime:
    return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


TIMES = st.datetimes(datetime(1800, 1, 1), datetime(2200, 1, 1))
MILLISECONDS = TIMES.map(lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000))
SPANS = st.timedeltas(timedelta(-9999), timedelta(9999))
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
KINDS = {
    "boolean": Kind(pl.Boolean, st.booleans()),
    **{f"int{bits}": Kind(getattr(pl, f"Int{bits}"), integers(bits, signed=True)) for bits in (8, 16, 32, 64, 128)},
    **{f"uint{bits}": Kind(getattr(pl, f"UInt{bits}"), integers(bits, signed=False)) for bits in (8, 16, 32, 64, 128)},
    "float16": Kind(pl.Float16, st.floats(width=16, allow_nan=False, allow_infinity=False)),
    "float32": Kind(pl.Float32, st.floats(width=32, allow_nan=False)),
    "float64": Kind(pl.Float64, st.floats(allow_nan=False)),
    "decimal": Kind(pl.Decimal(12, 2), decimals(12, 2), float),
    "whole decimal": Kind(pl.Decimal(18, 0), decimals(18, 0), int),
    "text": Kind(pl.String, TEXTS),
    "category": Kind(pl.Categorical, TEXTS),
    "enum": Kind(pl.Enum(["a", "b", ""]), st.sampled_from(["a", "b", ""])),
    "bytes": Kind(pl.Binary, st.binary(max_size=8)),
    "date": Kind(pl.Date, st.dates(date(1, 1, 1), date(9999, 12, 31))),
    "time ms": Kind(pl.Datetime("ms"), MILLISECONDS, utc),
    "time us": Kind(pl.Datetime("us"), st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1)), utc),
    "time ns": Kind(pl.Datetime("ns"), TIMES, utc),
    "time in a zone": Kind(pl.Datetime("us", "Asia/Kolkata"), TIMES.map(lambda at: at.replace(tzinfo=UTC)), utc),
    "duration": Kind(pl.Duration("us"), SPANS, lambda span: span / timedelta(seconds=1)),
    "time of day": Kind(pl.Time, st.times(), lambda at: pl.Series([at]).dt.to_string("%H:%M:%S%.f")[0]),
    "list": Kind(pl.List(pl.Int32), st.lists(st.none() | integers(32, signed=True), max_size=3)),
    "array": Kind(pl.Array(pl.Float32, 2), st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=2)),
    "list of unsigned": Kind(pl.List(pl.UInt64), st.lists(st.integers(0, 2**63 - 1), max_size=3)),
    "list of categories": Kind(pl.List(pl.Categorical), st.lists(TEXTS, max_size=3)),
    "list of durations": Kind(
        pl.List(pl.Duration("us")), st.lists(SPANS, max_size=2), lambda spans: [span // MICROSECOND for span in spans]
    ),
    "record": Kind(
        pl.Struct({"a": pl.UInt8, "b": pl.String}), st.fixed_dictionaries({"a": st.integers(0, 255), "b": TEXTS})
    ),
}


def ingest(frame: pl.DataFrame, folder: Path) -> pl.DataFrame:
    """Return the rows of a table after the check of the schema that is inferred from them."""
    rows = add_times(frame, Source(path="x"), "x", NOW)
    schema = infer_schema(rows, "x")
    verdict, _ = check_table(rows, schema, "x")
    assert not verdict.stops, verdict.reason
    store = DeltaTables(str(folder))
    return store.read("x", store.append("x", "x", convert_to_schema(rows, schema)))


@st.composite
def tables(draw: st.DrawFn) -> dict[str, list[Any]]:
    """Return values for a column of each type, with nulls."""
    rows = draw(st.integers(1, 6))
    return {name: draw(st.lists(st.none() | kind.values, min_size=rows, max_size=rows)) for name, kind in KINDS.items()}


@given(tables(), st.booleans())
@settings(deadline=None, max_examples=12, suppress_health_check=list(HealthCheck))
def test_every_type_keeps_its_values(table: dict[str, list[Any]], is_parquet: bool) -> None:
    columns = [
        pl.Series(name, values, dtype=KINDS[name].dtype, strict=False)
        for name, values in table.items()
        if not (is_parquet and name.endswith("int128"))  # which Parquet does not have
    ]
    frame = pl.DataFrame([pl.Series("n", range(len(columns[0]))), *columns])
    with TemporaryDirectory() as folder:
        read = to_polars(frame)
        if is_parquet:
            frame.write_parquet(Path(folder) / "a.parquet")
            read = read_table(Path(folder) / "a.parquet")
        found = ingest(read, Path(folder)).sort("n")
    for column in columns:
        values = table[column.name]
        if all(value is None for value in values):
            assert column.name not in found.columns
            continue
        stored = KINDS[column.name].stored
        assert found[column.name].to_list() == [None if value is None else stored(value) for value in values]


REFUSED: dict[str, Any] = {
    "UInt64": pl.Series("a", [1, 2**63], dtype=pl.UInt64),
    "Int128": pl.Series("a", [-(2**63) - 1], dtype=pl.Int128),
    "UInt128": pl.Series("a", [2**64], dtype=pl.UInt128),
    "Decimal": pl.Series("a", [Decimal(10**20)], dtype=pl.Decimal(38, 0)),
    "Object": pl.Series("a", [object()], dtype=pl.Object),
    "List": pl.Series("a", [[2**63]], dtype=pl.List(pl.UInt64)),
    "Datetime": pl.Series("a", [2**60], dtype=pl.Int64).cast(pl.Datetime("us")),
    "Date": pl.Series("a", [2**30], dtype=pl.Int32).cast(pl.Date),
    "decimal256": pa.table({"a": pa.array([Decimal(1)], pa.decimal256(40, 0))}),
    "list_view": pa.table({"a": pa.array([[1]], pa.list_view(pa.int64()))}),
    "month_day_nano": pa.table({"a": pa.array([pa.MonthDayNano([1, 2, 3])])}),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_no_type_stores_is_refused_by_name(kind: str) -> None:
    column = REFUSED[kind]
    frame = column.to_frame() if isinstance(column, pl.Series) else column
    with pytest.raises(Unreadable, match=rf"column 'a' of a frame has the (Arrow )?type {kind}") as refused:
        to_polars(frame)
    assert refused.value.cure


def test_the_cure_for_large_integers_works() -> None:
    frame = pl.DataFrame({"a": pl.Series([2**64 - 1], dtype=pl.UInt64)})
    with pytest.raises(Unreadable) as refused:
        to_storable(frame, "x")
    expression = refused.value.cure.split(": ")[1].split(" in Polars")[0]
    cured = frame.with_columns(eval(expression, {"pl": pl}))
    assert to_storable(cured, "x")["a"].to_list() == ["18446744073709551615"]


EXTENSIONS = {
    "uuid": (pa.uuid(), [b"a" * 16, None], [b"a" * 16, None]),
    "json": (pa.json_(), ['{"a": 1}', None], ['{"a": 1}', None]),
    "bool8": (pa.bool8(), [1, 0, None], [True, False, None]),
    "opaque": (pa.opaque(pa.string(), "t", "v"), ["a", None], ["a", None]),
}


@pytest.mark.parametrize("name", EXTENSIONS)
def test_extension_types_have_the_values_of_their_storage(name: str, tmp_path: Path) -> None:
    kind, values, expected = EXTENSIONS[name]
    table = pa.table({"a": pa.ExtensionArray.from_storage(kind, pa.array(values, kind.storage_type))})
    parquet.write_table(table, tmp_path / "a.parquet")
    assert ingest(read_table(tmp_path / "a.parquet"), tmp_path)["a"].to_list() == expected
    assert to_polars(table)["a"].to_list() == expected


def test_a_parquet_file_with_an_unknown_type_names_its_column(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"a": pa.array([Decimal(1)], pa.decimal256(40, 0))}), tmp_path / "a.parquet")
    with pytest.raises(Unreadable, match=r"column 'a' of .*a\.parquet has the Arrow type decimal256"):
        read_table(tmp_path / "a.parquet")


def test_int96_is_a_time(tmp_path: Path) -> None:
    table = pa.table({"a": pa.array([datetime(2020, 1, 2, 3, 4, 5, 6)], pa.timestamp("ns"))})
    parquet.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    assert ingest(read_table(tmp_path / "a.parquet"), tmp_path)["a"].to_list() == [
        datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    ]


@pytest.mark.parametrize("value", [1.5, 7, "x", True, date(2020, 1, 1), [1], time(3), b"x"], ids=str)
def test_a_column_without_values_gets_the_type_of_its_first_values(value: Any, tmp_path: Path) -> None:
    empty = pl.DataFrame({"n": [1, 2], "a": [None, None]})
    schema = infer_schema(empty, "x")
    assert [column.type for column in schema.columns] == ["integer", "empty"]
    store = DeltaTables(str(tmp_path))
    store.append("x", "1", convert_to_schema(empty, schema))
    filled = to_storable(pl.DataFrame({"n": [3], "a": [value]}), "x")
    assert not check_table(filled, schema, "x")[0].stops
    version = store.append("x", "2", convert_to_schema(filled, infer_schema(filled, "x")))
    assert store.read("x", version).sort("n")["a"].to_list() == [None, None, *filled["a"].to_list()]


NESTED: list[tuple[list[Any], list[Any]]] = [
    ([[1]], [[2.5]]),
    ([{"a": 1}], [{"a": 2.5}]),
    ([{"a": 1}], [{"b": "x"}]),
    ([{"a": [1]}], [{"a": [0.5], "b": "x"}]),
    ([[{"a": 1, "b": True}]], [[{"a": 0.5}]]),
]


@pytest.mark.parametrize(("first", "second"), NESTED)
def test_a_table_widens_lists_and_records(first: list[Any], second: list[Any], tmp_path: Path) -> None:
    store = DeltaTables(str(tmp_path))
    frames = [pl.DataFrame({"a": first}), pl.DataFrame({"a": second})]
    for number, frame in enumerate(frames):
        version = store.append("x", str(number), frame)
    found = store.read("x", version)["a"].to_list()
    for value in (first[0], second[0]):
        assert any(_contains(stored, value) for stored in found), found


def _contains(stored: Any, value: Any) -> bool:
    """Return whether a stored value has the members of a value; a record may have other members that are null."""
    if isinstance(value, list):
        return len(stored) == len(value) and all(map(_contains, stored, value))
    if isinstance(value, dict):
        return all(_contains(stored.get(name), member) for name, member in value.items())
    return bool(stored == value)


def test_lists_and_records_in_one_column_are_refused(tmp_path: Path) -> None:
    store = DeltaTables(str(tmp_path))
    store.append("x", "1", pl.DataFrame({"a": [[1]]}))
    with pytest.raises(TidemillError, match=r"column 'a' has the type List\(Int64\) in the table and Struct"):
        store.append("x", "2", pl.DataFrame({"a": [{"b": 1}]}))
