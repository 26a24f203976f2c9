"""Encoding: the same row gives the same numbers, at training and at serving."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from msgspec import convert

from tidemill.data.encoding import Encoding, encode, fit_encoding
from tidemill.errors import DataError

FRAME = pl.DataFrame(
    {
        "carrier": ["UA"] * 300 + ["AA"] * 194 + ["rare"] * 4 + [None] * 2,
        "distance": [float(place) for place in range(499)] + [None],
        "seats": list(range(500)),
        "night": [True, False] * 250,
        "when": [datetime(2013, 3, 1, 10, 30)] * 500,
        "day": [date(2013, 3, 3)] * 500,
    }
)
NAMES = tuple(FRAME.columns)


def row(frame: pl.DataFrame, encoding: Encoding | None = None) -> list[float]:
    return encode(encoding or fit_encoding(FRAME, NAMES), frame)[0].tolist()  # type: ignore[no-any-return]


def test_columns_become_numbers_in_a_fixed_order() -> None:
    encoding = fit_encoding(FRAME, NAMES)
    assert encoding.names == (
        "carrier",
        "distance",
        "seats",
        "night",
        "when_hour",
        "when_weekday",
        "day_hour",
        "day_weekday",
    )
    assert encoding.categorical == (0,)
    assert [one.type for one in encoding.inputs] == ["text", "number", "integer", "boolean", "time", "date"]
    assert row(FRAME[7:8]) == [1.0, 7.0, 7.0, 0.0, 10.5, 5.0, 0.0, 7.0]


def test_the_order_of_the_columns_asked_with_does_not_matter() -> None:
    encoding = fit_encoding(FRAME, NAMES)
    turned = FRAME.select(reversed(FRAME.columns)).with_columns(beside=pl.lit("x"))
    assert np.array_equal(encode(encoding, turned), encode(encoding, FRAME), equal_nan=True)


def test_words_that_are_unseen_rare_or_missing_are_three_things() -> None:
    encoding = fit_encoding(FRAME, ("carrier",))
    assert encoding.columns[0].vocabulary == ("AA", "UA")
    found = encode(encoding, pl.DataFrame({"carrier": ["AA", "UA", "rare", "never seen", "", None]}))[:, 0]
    assert found[:5].tolist() == [0.0, 1.0, -1.0, -1.0, -1.0]
    assert np.isnan(found[5])


def test_what_is_missing_is_nan_everywhere() -> None:
    encoding = fit_encoding(FRAME, NAMES)
    assert np.isnan(
        encode(encoding, FRAME[:1].select(pl.lit(None, kind).alias(n) for n, kind in FRAME.schema.items()))
    ).all()
    assert np.isnan(encode(encoding, pl.DataFrame({"other": [1]}))).all()
    assert encode(encoding, FRAME.clear()).shape == (0, 8)


def test_a_column_without_any_value_prints_nothing_of_its_type() -> None:
    encoding = fit_encoding(FRAME, ("distance", "carrier", "when"))
    nothing = pl.DataFrame({"distance": [None], "carrier": [None], "when": [None]})
    assert np.isnan(encode(encoding, nothing)).all()


def test_rows_of_json_are_encoded_as_rows_of_tables() -> None:
    encoding = fit_encoding(FRAME, NAMES)
    sent = pl.DataFrame(
        {
            "carrier": ["UA"],
            "distance": [7],
            "seats": [7.0],
            "night": [False],
            "when": ["2013-03-01T10:30:00"],
            "day": ["2013-03-03T00:00:00"],
        }
    )
    assert row(sent, encoding) == row(FRAME[7:8], encoding)


def test_a_day_as_json_writes_it_is_the_day() -> None:
    encoding = fit_encoding(FRAME, ("day",))
    assert row(pl.DataFrame({"day": ["2013-03-03"]}), encoding) == row(FRAME[:1], encoding)


def test_times_with_a_zone_are_taken_in_utc() -> None:
    encoding = fit_encoding(FRAME, ("when",))
    zoned = pl.DataFrame({"when": [datetime(2013, 3, 1, 10, 30, tzinfo=UTC)]})
    text = pl.DataFrame({"when": ["2013-03-01T10:30:00Z"]})
    assert row(zoned, encoding) == row(text, encoding) == [10.5, 5.0]


MOMENTS = st.none() | st.datetimes(datetime(1950, 1, 1), datetime(2090, 1, 1))


@given(moments=st.lists(MOMENTS, min_size=1, max_size=30), later=st.lists(MOMENTS, max_size=5))
@settings(deadline=None)
def test_a_time_is_the_parts_of_it_that_vary(moments: list[datetime | None], later: list[datetime | None]) -> None:
    known = [one for one in moments if one]
    assume(known)
    column = pl.Series("when", moments, dtype=pl.Datetime("us"))
    encoding = fit_encoding(column.to_frame(), ("when",))
    parts: dict[str, Callable[[datetime], float]] = {
        "year": lambda one: one.year,
        "month": lambda one: one.month,
        "day_of_year": lambda one: one.timetuple().tm_yday,
        "weekday": lambda one: one.isoweekday(),
        "hour": lambda one: one.hour + one.minute / 60,
        "elapsed": lambda one: (one - min(known)) / timedelta(days=1),
    }
    names = tuple(name.removeprefix("when_") for name in encoding.names)
    if len({(one.day, one.hour, one.minute) for one in known}) > 1:
        assert names == tuple(name for name, part in parts.items() if len({part(one) for one in known}) > 1)
    found = encode(encoding, pl.DataFrame({"when": pl.Series(later, dtype=pl.Datetime("us"))}))
    wanted = [[np.nan if one is None else parts[name](one) for name in names] for one in later]
    assert np.allclose(found, np.reshape(wanted, found.shape), equal_nan=True)


def test_years_and_months_that_are_written_as_dates_are_years_and_months() -> None:
    years = pl.DataFrame({"made": [date(1970 + place % 13, 1, 1) for place in range(60)]})
    encoding = fit_encoding(years, ("made",))
    assert encoding.names == ("made_year",)
    assert encode(encoding, years)[:3, 0].tolist() == [1970, 1971, 1972]
    months = pl.DataFrame({"month": [date(2020 + place // 12, 1 + place % 12, 1) for place in range(30)]})
    assert fit_encoding(months, ("month",)).names == ("month_year", "month_month", "month_elapsed")


def test_a_package_of_an_earlier_version_reads_times_as_it_did() -> None:
    stored = {"columns": [{"name": "when", "type": "time", "kind": "time", "vocabulary": []}]}
    encoding = convert(stored, Encoding)
    assert encoding.names == ("when_hour", "when_weekday")
    assert row(pl.DataFrame({"when": [datetime(2013, 3, 1, 10, 30)]}), encoding) == [10.5, 5.0]


@pytest.mark.parametrize(
    ("name", "values"), [("distance", ["far"]), ("when", ["soon"]), ("seats", [[1]]), ("night", ["maybe"])]
)
def test_what_cannot_be_read_is_reported_with_the_column(name: str, values: list[object]) -> None:
    encoding = fit_encoding(FRAME, NAMES)
    with pytest.raises(DataError, match=name) as raised:
        encode(encoding, FRAME[:1].drop(name).with_columns(pl.Series(name, values)))
    assert raised.value.cure


def test_lists_and_records_are_reported_with_the_cure() -> None:
    for values in ([["a"]], [{"a": 1}]):
        with pytest.raises(DataError, match=r"column 'tags' has the type .*, which a model cannot use") as raised:
            fit_encoding(pl.DataFrame({"tags": values}), ("tags",))
        assert "exclude it under [inputs]" in raised.value.cure


def test_columns_that_are_absent_or_empty_are_reported() -> None:
    with pytest.raises(DataError, match="no column 'wind'") as absent:
        fit_encoding(FRAME, ("wind",))
    assert "carrier" in absent.value.cure
    with pytest.raises(DataError, match="'wind' is null in every row") as empty:
        fit_encoding(FRAME.with_columns(wind=pl.lit(None, pl.Float64)), ("wind",))
    assert 'exclude = ["wind"]' in empty.value.cure


def test_a_large_vocabulary_keeps_its_most_frequent_words() -> None:
    words = [f"w{place:04}" for place in range(1500) for _ in range(5 + place % 2)]
    (column,) = fit_encoding(pl.DataFrame({"word": words}), ("word",)).columns
    assert len(column.vocabulary) == 1000
    assert all(f"w{place:04}" in column.vocabulary for place in range(1, 1500, 2))


def test_a_small_table_keeps_words_that_were_seen_once() -> None:
    (column,) = fit_encoding(pl.DataFrame({"word": ["a", "b", "a"]}), ("word",)).columns
    assert column.vocabulary == ("a", "b")
