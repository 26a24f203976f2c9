"""The same values, by whatever way they come, are the same row; and what one way refuses, each other refuses, too."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.checks.table import check_table, convert_to_schema
from tidemill.core.model import Input, Manifest, Model, Signature
from tidemill.core.schema import Column, ColumnType, Schema
from tidemill.data.encoding import ColumnEncoding, Encoding, encode
from tidemill.data.rows import RowReader
from tidemill.data.types import RULES
from tidemill.errors import DataError
from tidemill.models.inputs import SAMPLES, encode_samples, load_samples

Values = list[Any]
Way = Callable[[ColumnType, pl.Series], pl.Series]
LEAST, MOST = datetime(1900, 1, 1), datetime(2100, 1, 1)
WRITTEN = (
    "[0-9]{4}[-/][01][0-9][-/][0-3][0-9]([T ][0-2][0-9]:[0-6][0-9](:[0-6][0-9]([.,][0-9]{1,9})?)?"
    "( ?(Z|UTC|[+-][0-2][0-9](:?[0-6][0-9])?))?)?"
)
ZONES = st.builds(lambda minutes: timezone(timedelta(minutes=minutes)), st.integers(-14 * 60, 14 * 60))


def by_reader(kind: ColumnType, values: pl.Series) -> pl.Series:
    """As serving, batches and a notebook read a frame."""
    return RowReader([Input(name="a", type=kind)]).read_frame(values.to_frame())["a"]


def by_table(kind: ColumnType, values: pl.Series) -> pl.Series:
    """As a batch of a source comes into its table."""
    schema = Schema(source="rows", columns=(Column(name="a", type=kind, finite=False),))
    verdict, _ = check_table(values.to_frame(), schema, "rows")
    if verdict.stops:
        raise DataError(verdict.reason, "")
    return convert_to_schema(values.to_frame(), schema)["a"]


def by_samples(kind: ColumnType, values: pl.Series) -> pl.Series:
    """As a package keeps the rows that it was adopted with."""
    signature = Signature(inputs=(Input(name="a", type=kind),), task="regression")
    content = encode_samples(RowReader(signature.inputs).read_frame(values.to_frame()))
    manifest = Manifest(name="m", flavor="joblib", signature=signature)
    return load_samples(Model(manifest=manifest, files={SAMPLES: content}))["a"]


def by_journey(kind: ColumnType, values: pl.Series) -> pl.Series:
    """As a training keeps samples: the JSON of Polars, read as a request is."""
    rows = json.loads(by_reader(kind, values).to_frame().write_json())
    return RowReader([Input(name="a", type=kind)]).read_json(rows)["a"]


slow = settings(deadline=None, max_examples=40)
WAYS: tuple[Way, ...] = (by_reader, by_table, by_samples, by_journey)


def numbers_of(kind: ColumnType, values: pl.Series) -> list[float]:
    """What a model gets."""
    how: Literal["time", "category", "number"] = (
        "time" if kind in ("time", "date") else "category" if kind == "text" else "number"
    )
    column = ColumnEncoding(name="a", type=kind, kind=how, vocabulary=("a", "b") if how == "category" else ())
    matrix = encode(Encoding(columns=(column,)), values.to_frame())
    return np.nan_to_num(matrix, nan=-7.0).ravel().tolist()


def agree(kind: ColumnType, expected: Values, sent: Values, frames: list[pl.Series]) -> None:
    """JSON and each frame give the expected values of one type, by every way."""
    wanted = pl.Series("a", expected, dtype=RULES[kind].dtype)
    message = RowReader([Input(name="a", type=kind)]).read_json([{"a": value} for value in sent])["a"]
    assert message.equals(wanted, check_dtypes=True)
    for frame in (wanted, *frames):
        for way in WAYS:
            found = way(kind, frame.alias("a"))
            assert found.equals(wanted, check_dtypes=True), (way.__name__, frame.dtype, found, wanted)
        assert numbers_of(kind, frame.alias("a")) == numbers_of(kind, wanted)


def gaps(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Values]:
    return st.lists(st.none() | values, min_size=1, max_size=6).filter(lambda found: any(v is not None for v in found))


def each(values: Values, change: Callable[[Any], Any]) -> Values:
    return [None if value is None else change(value) for value in values]


@slow
@given(gaps(st.integers(-(2**31), 2**31 - 1)))
def test_whole_numbers(values: Values) -> None:
    types: list[Any] = [pl.Int32, pl.Int64, pl.Int128, pl.Float64, pl.Decimal(20, 2)]
    if all(value is None or value >= 0 for value in values):
        types += [pl.UInt32, pl.UInt64]
    frames = [pl.Series(values, dtype=pl.Int64).cast(dtype) for dtype in types]
    agree("integer", values, values, frames)
    agree("integer", values, each(values, float), frames)
    agree("number", each(values, float), values, frames)


@slow
@given(gaps(st.integers(-(2**63), 2**63 - 1)))
def test_large_whole_numbers(values: Values) -> None:
    agree("integer", values, values, [pl.Series(values, dtype=pl.Int128), pl.Series(values, dtype=pl.Decimal(38, 1))])


@slow
@given(gaps(st.decimals(-10_000, 10_000, places=3)))
def test_numbers(values: Values) -> None:
    floats = each(values, float)
    agree("number", floats, floats, [pl.Series(values, dtype=pl.Decimal(20, 3)), pl.Series(floats)])


@slow
@given(gaps(st.booleans()))
def test_booleans(values: Values) -> None:
    agree("boolean", values, values, [pl.Series(values, dtype=pl.Boolean)])


@slow
@given(gaps(st.text(max_size=5)))
def test_texts(values: Values) -> None:
    known = sorted({value for value in values if value is not None})
    text = pl.Series(values, dtype=pl.String)
    agree("text", values, values, [text, text.cast(pl.Categorical), text.cast(pl.Enum(known))])


@slow
@given(gaps(st.times()))
def test_times_of_day_are_text(values: Values) -> None:
    texts = pl.Series(values, dtype=pl.Time).dt.to_string("%H:%M:%S%.f").to_list()
    agree("text", texts, texts, [pl.Series(values, dtype=pl.Time)])


@slow
@given(gaps(st.timedeltas(timedelta(-9999), timedelta(9999))))
def test_durations_are_seconds(values: Values) -> None:
    seconds = each(values, lambda duration: duration / timedelta(seconds=1))
    units: list[Literal["us", "ns"]] = ["us", "ns"]
    agree("number", seconds, seconds, [pl.Series(values, dtype=pl.Duration(unit)) for unit in units])


@slow
@given(gaps(st.datetimes(LEAST, MOST, timezones=ZONES)), st.sampled_from(["T", " "]))
def test_times_in_any_zone(values: Values, between: str) -> None:
    expected = each(values, lambda at: at.astimezone(UTC))
    texts = each(values, lambda at: at.isoformat(sep=between))
    plain = pl.Series(each(expected, lambda at: at.replace(tzinfo=None)), dtype=pl.Datetime("us"))
    zoned = plain.dt.replace_time_zone("UTC").dt.convert_time_zone("Asia/Kolkata")
    frames = [pl.Series(texts, dtype=pl.String), plain, plain.cast(pl.Datetime("ns")), zoned]
    agree("time", expected, texts, frames)
    agree("time", expected, each(expected, lambda at: at.replace(tzinfo=None).isoformat()), frames)


@slow
@given(gaps(st.dates(LEAST.date(), MOST.date())), st.sampled_from(["", "T00:00:00", " 00:00", "T00:00:00.000+05:30"]))
def test_dates(values: Values, midnight: str) -> None:
    texts = each(values, lambda day: day.isoformat() + midnight)
    midnights = pl.Series(values, dtype=pl.Date).cast(pl.Datetime("us"))
    frames = [pl.Series(texts, dtype=pl.String), midnights, midnights.dt.replace_time_zone("Asia/Kolkata")]
    agree("date", values, texts, frames)


@slow
@given(gaps(st.dates(LEAST.date(), MOST.date())))
def test_a_date_is_its_midnight(values: Values) -> None:
    expected = each(values, lambda day: datetime(day.year, day.month, day.day, tzinfo=UTC))
    agree("time", expected, each(values, date.isoformat), [pl.Series(values, dtype=pl.Date)])


@slow
@given(st.from_regex(WRITTEN, fullmatch=True))
def test_text_is_the_same_time_and_the_same_date_everywhere(text: str) -> None:
    for kind in ("time", "date"):
        frame = pl.Series("a", [None, text])
        try:
            expected = RowReader([Input(name="a", type=kind)]).read_json([{}, {"a": text}])["a"].to_list()
        except DataError:
            for way in WAYS:
                with pytest.raises(DataError):
                    way(kind, frame)
            continue
        for way in WAYS:
            assert way(kind, frame).to_list() == expected


REFUSED: list[tuple[ColumnType, Any, pl.Series]] = [
    ("integer", 1.5, pl.Series([None, 1.5])),
    ("integer", 1e16, pl.Series([None, 1e16])),
    ("integer", 2**63, pl.Series([None, 2**63], dtype=pl.UInt64)),
    ("integer", -(2**63) - 1, pl.Series([None, -(2**63) - 1], dtype=pl.Int128)),
    ("integer", "7", pl.Series([None, "7"])),
    ("integer", True, pl.Series([None, True])),
    ("integer", 0.25, pl.Series([None, Decimal("0.25")])),
    ("number", True, pl.Series([None, True])),
    ("number", "far", pl.Series([None, "far"])),
    ("number", [1.0], pl.Series([None, [1.0]])),
    ("boolean", 1, pl.Series([None, 1])),
    ("boolean", "true", pl.Series([None, "true"])),
    ("text", 3, pl.Series([None, 3])),
    ("text", True, pl.Series([None, True])),
    ("text", ["a"], pl.Series([None, ["a"]])),
    ("text", {"a": 1}, pl.Series([None, {"a": 1}])),
    ("time", "04/09/2013 10:00", pl.Series([None, "04/09/2013 10:00"])),
    ("time", "2013-02-30", pl.Series([None, "2013-02-30"])),
    ("time", 1362000000, pl.Series([None, 1362000000])),
    ("date", "2013-03-01T07:00:00", pl.Series([None, datetime(2013, 3, 1, 7)])),
    ("date", "31.01.2013", pl.Series([None, "31.01.2013"])),
    ("date", 20130131, pl.Series([None, 20130131])),
]


@pytest.mark.parametrize(("kind", "sent", "column"), REFUSED, ids=lambda value: str(value)[:20].split("\n")[0])
def test_what_would_lose_something_is_refused_everywhere(kind: ColumnType, sent: Any, column: pl.Series) -> None:
    message = f"column 'a' should be of type {kind}"
    with pytest.raises(DataError, match=f"row 1: {message}") as refused:
        RowReader([Input(name="a", type=kind)]).read_json([{"a": None}, {"a": sent}])
    assert refused.value.cure
    for way in WAYS:
        with pytest.raises(DataError, match=f"{message}|has the type .* do not fit in Int64"):
            way(kind, column.alias("a"))
    with pytest.raises(DataError, match=f"row 1: {message}"):
        numbers_of(kind, column.alias("a"))


@pytest.mark.parametrize("kind", ["boolean", "integer", "number", "text", "time", "date"])
@pytest.mark.parametrize("dtype", [pl.Null, pl.Float64, pl.String, pl.List(pl.Int64), pl.Binary])
def test_a_column_without_values_is_of_every_type(kind: ColumnType, dtype: Any) -> None:
    nothing = pl.Series("a", [None, None], dtype=dtype)
    for way in WAYS:
        assert way(kind, nothing).equals(pl.Series("a", [None, None], dtype=RULES[kind].dtype), check_dtypes=True)


def test_only_a_source_may_write_numbers_as_text() -> None:
    text = pl.Series("a", ["1.5", None])
    assert by_table("number", text).to_list() == [1.5, None]
    with pytest.raises(DataError, match=r"row 0: column 'a' should be of type number, but is '1\.5'"):
        by_reader("number", text)


def test_bytes_are_kept_and_are_no_input() -> None:
    held = pl.Series("a", [b"\xff", None])
    assert by_table("nested", held).equals(held)
    with pytest.raises(DataError, match="should be of type text"):
        by_table("text", held)
