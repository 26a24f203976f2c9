"""Dates and times in other forms than ISO 8601: found, or read by the format that is given."""

import shlex
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.core.dialect import Dialect
from tidemill.data.learning import LearnedTable, learn_table
from tidemill.data.reading.dates import find_compact_format, parse_format, require_format
from tidemill.data.reading.given import GivenDialect
from tidemill.data.reading.values import type_typed_columns
from tidemill.errors import DataError, InputError

BEGIN = datetime(2001, 1, 1, tzinfo=UTC)
moments = st.lists(st.integers(0, 10**9).map(lambda s: BEGIN + timedelta(seconds=s)), min_size=1, max_size=20)


def learn(values: list[str], options: GivenDialect = GivenDialect()) -> LearnedTable:  # noqa: B008
    with TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_text("\n".join(["at;row", *(f"{value};{row}" for row, value in enumerate(values)), ""]))
        return learn_table(path, options)


FORMS = [
    ("%d.%m.%Y %H:%M:%S,5", timedelta(seconds=0.5)),
    ("%d.%m.%Y %H:%M:%S.25", timedelta(seconds=0.25)),
    ("%d.%m.%Y, %H:%M:%S", timedelta()),
    ("%Y-%m-%d %I:%M:%S %p", timedelta()),
    ("%Y-%m-%d %I:%M:%S%p", timedelta()),
    ("%d %B %Y %I:%M:%S %p", timedelta()),
    ("%Y/%m/%d %H:%M:%S", timedelta()),
    ("%Y-%m-%dT%H:%M:%S,5Z", timedelta(seconds=0.5)),
]


@settings(max_examples=80, deadline=None)
@given(moments, st.sampled_from(FORMS))
def test_times_whose_order_is_certain_are_found(times: list[datetime], form: tuple[str, timedelta]) -> None:
    written, more = form
    learned = learn([time.strftime(written) for time in times])
    assert learned.frame["at"].to_list() == [time + more for time in times]


@settings(max_examples=60, deadline=None)
@given(moments, st.sampled_from(["%Y%m%d", "%Y%m%d%H%M", "%Y%m%d%H%M%S"]))
def test_compact_dates_are_proposed_and_read(times: list[datetime], form: str) -> None:
    values = [time.strftime(form) for time in times]
    proposed = learn(values)
    assert proposed.frame["at"].to_list() == [int(value) for value in values]
    assert any(f"--date-format at={form}" in fact for fact in proposed.facts)
    with pytest.raises(InputError, match="integers, not times") as error:
        learn(values, GivenDialect(times=("at",)))
    assert error.value.cure
    assert f"--date-format at={form}" in error.value.cure
    read = learn(values, GivenDialect(date_formats={"at": form})).frame["at"]
    expected = [datetime.strptime(value, form).replace(tzinfo=UTC) for value in values]
    assert read.to_list() == ([time.date() for time in expected] if form == "%Y%m%d" else expected)


@pytest.mark.parametrize("value", ["2013010", "20131301", "201301011", "20130230"])
def test_numbers_that_are_no_compact_dates_are_refused_as_dates(value: str) -> None:
    assert not any("--date-format" in fact for fact in learn(["20130101", value]).facts)
    with pytest.raises(InputError, match="without the format %Y%m%d"):
        learn(["20130101", value], GivenDialect(date_formats={"at": "%Y%m%d"}))


@pytest.mark.parametrize(
    ("values", "form", "first"),
    [
        (["1995-01", "1995-02"], "%Y-%m", date(1995, 1, 1)),
        (["02/1995", "03/1995"], "%m/%Y", date(1995, 2, 1)),
        (["Feb 1995", "March 1995"], "%B %Y", date(1995, 2, 1)),
        (["1995-Feb", "1995-Mar"], "%Y-%B", date(1995, 2, 1)),
        (["199502", "199512"], "%Y%m", date(1995, 2, 1)),
        (["1760", "1761"], "%Y", date(1760, 1, 1)),
        (["Mon, 20 Oct 2025 01:00:00 +0200"], "%a, %d %b %Y %H:%M:%S %z", datetime(2025, 10, 19, 23, tzinfo=UTC)),
        (["20251020T010000Z", "20251020T010000+0100"], "%Y%m%dT%H%M%S%z", datetime(2025, 10, 20, 1, tzinfo=UTC)),
        (["1760922000.25"], "unix_seconds", datetime(2025, 10, 20, 1, 0, 0, 250_000, tzinfo=UTC)),
    ],
)
def test_an_event_time_in_another_form_is_asked_with_its_format(
    values: list[str], form: str, first: date | datetime
) -> None:
    with pytest.raises(InputError, match=r"column 'at' has (texts|numbers|integers), not times") as error:
        learn(values, GivenDialect(times=("at",)))
    assert f"--date-format {shlex.quote(f'at={form}')}" in str(error.value.cure)
    assert learn(values, GivenDialect(times=("at",), date_formats={"at": form})).frame["at"][0] == first


@pytest.mark.parametrize("value", ["1960Q1", "2025-W43-1", "20 octobre 2025", "01:00", "45950.04", "soon"])
def test_an_event_time_without_times_is_refused(value: str) -> None:
    with pytest.raises(InputError, match=f"not times, such as '?{value}") as error:
        learn([value, value], GivenDialect(times=("at",)))
    assert "choose another column with --time" in str(error.value.cure)


@pytest.mark.parametrize("form", ["%d", "%Y-%d", "%H:%M", "%Y-%m %H:%M", "%m", "", "%Y %Q"])
def test_a_format_of_dates_has_a_year_and_no_gaps(form: str) -> None:
    with pytest.raises(InputError, match="is not a format of dates"):
        require_format(form)


@pytest.mark.parametrize(
    "value", ["2013-01-31 14:05:00 CET", "31.01.2013 14.05 Uhr", "2013-01-31 14:05:00 Europe/Oslo"]
)
def test_times_of_an_unknown_form_are_asked(value: str) -> None:
    with pytest.raises(DataError, match="times in a form that is unknown") as error:
        learn([value, value.replace("31", "30")])
    assert error.value.cure
    assert "--text at" in error.value.cure
    assert learn([value], GivenDialect(texts=("at",))).frame.schema["at"] == pl.String


def test_mixed_zones_are_reported() -> None:
    learned = learn(["2013-01-31 14:05", "2013-01-31 14:05+01:00", "2013-01-31T14:05:00Z"])
    assert [time.hour for time in learned.frame["at"]] == [14, 13, 14]
    assert "column 'at' has times with a zone (2) and without (1): these are UTC" in learned.facts


@pytest.mark.parametrize("kind", [pl.Int8, pl.UInt8, pl.Int16, pl.UInt16, pl.Int32, pl.UInt32, pl.Int64, pl.UInt64])
def test_a_column_of_any_integers_is_searched_for_compact_dates(kind: type[pl.DataType]) -> None:
    assert find_compact_format(pl.Series("x", [1, 100], dtype=kind)) == ""
    assert find_compact_format(pl.Series("x", [], dtype=kind)) == ""
    if kind in (pl.Int32, pl.UInt32, pl.Int64, pl.UInt64):
        assert find_compact_format(pl.Series("x", [20130131, 20140228], dtype=kind)) == "%Y%m%d"


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_numbers_since_1970_have_the_same_time_in_each_format(suffix: str, tmp_path: Path) -> None:
    numbers = pl.DataFrame({"at": [1700000001.75, 1700000002.0, -1.5]})
    path = tmp_path / f"table.{suffix}"
    getattr(numbers, {"csv": "write_csv", "parquet": "write_parquet", "jsonl": "write_ndjson"}[suffix])(path)
    read = learn_table(path, GivenDialect(times=("at",), date_formats={"at": "unix_seconds"})).frame["at"]
    assert [value.timestamp() for value in read] == numbers["at"].to_list()


@pytest.mark.parametrize("form", ["unix_seconds", "unix_milliseconds", "unix_microseconds"])
@pytest.mark.parametrize("value", [2**63 - 1, -(2**63)])
def test_a_number_that_is_no_time_is_none(value: int, form: str) -> None:
    integers = pl.Series("at", [1700000000, value])
    assert parse_format(integers, form).null_count() == 1
    assert parse_format(integers.cast(pl.String), form).null_count() == 1
    kept = type_typed_columns(integers.to_frame(), Dialect(date_formats={"at": form}))["at"]
    assert kept.to_list() == integers.to_list(), "the check of the schema names the value"
