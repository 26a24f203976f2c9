"""Event times: those of any kind become UTC, and errors name the source and the column."""

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from tidemill.core.source import Source
from tidemill.data.frame import add_times
from tidemill.errors import DataError

ARRIVED = datetime(2013, 3, 1, 6, tzinfo=UTC)
NOON = datetime(2013, 1, 31, 12, tzinfo=UTC)
FRAME = pl.DataFrame({"a": [1, 2], "b": ["x", None], "t": [NOON, None]})
NAIVE = datetime(2013, 1, 31, 12)
TIMES: dict[str, tuple[Any, datetime]] = {
    "naive": (pl.Series([NAIVE]), NOON),
    "milliseconds": (pl.Series([NAIVE]).cast(pl.Datetime("ms")), NOON),
    "nanoseconds": (pl.Series([NAIVE]).cast(pl.Datetime("ns")), NOON),
    "zoned": (pl.Series([NAIVE]).dt.replace_time_zone("America/New_York"), datetime(2013, 1, 31, 17, tzinfo=UTC)),
    "date": (pl.Series([date(2013, 1, 31)]), datetime(2013, 1, 31, tzinfo=UTC)),
    "text": (pl.Series(["2013-01-31T12:00:00Z"]), NOON),
    "text with an offset": (pl.Series(["2013-01-31T14:00:00+02:00"]), NOON),
    "text without a zone": (pl.Series(["2013-01-31 12:00:00"]), NOON),
    "text of a date": (pl.Series(["2013-01-31"]), datetime(2013, 1, 31, tzinfo=UTC)),
    "text with fractions": (pl.Series(["2013-01-31T12:00:00.5Z"]), NOON.replace(microsecond=500_000)),
}


@pytest.mark.parametrize(("values", "wanted"), TIMES.values(), ids=TIMES)
def test_times_of_any_kind_become_utc(values: pl.Series, wanted: datetime) -> None:
    frame = pl.DataFrame({"t": values.extend_constant(None, 1)})
    found = add_times(frame, Source(path="a", time="t", delay="2h"), "rows", ARRIVED)
    assert found.schema["_tidemill_time"] == found.schema["_tidemill_known_at"] == pl.Datetime("us", "UTC")
    assert found["_tidemill_time"].to_list() == [wanted, None]
    known = found["_tidemill_known_at"].to_list()
    assert (known[0] - wanted).total_seconds() == 7200
    assert known[1] is None
    assert found["t"].equals(frame["t"])


def test_known_at_comes_from_its_column_or_from_the_arrival() -> None:
    frame = pl.DataFrame({"t": [NAIVE], "k": [datetime(2013, 2, 1)]})
    named = add_times(frame, Source(path="a", time="t", known_at="k", delay="9d"), "rows", ARRIVED)
    assert named["_tidemill_known_at"].to_list() == [datetime(2013, 2, 1, tzinfo=UTC)]
    timeless = add_times(frame, Source(path="a"), "rows", ARRIVED)
    assert timeless.select("_tidemill_time", "_tidemill_known_at").rows() == [(ARRIVED, ARRIVED)]


@pytest.mark.parametrize(
    "values", [["soon"], ["2013-01-31T12:00:00Z", "soon"], ["2013-01-31T12:00:00Z", ""], [1], [True]], ids=str
)
def test_what_is_no_time_is_reported(values: list[Any]) -> None:
    with pytest.raises(DataError, match="column 't' of source 'rows'") as raised:
        add_times(pl.DataFrame({"t": values}), Source(path="a", time="t"), "rows", ARRIVED)
    assert raised.value.cure


def test_a_time_column_that_is_not_there_is_reported() -> None:
    with pytest.raises(DataError, match="'rows' has no column 'when'") as raised:
        add_times(FRAME, Source(path="a", time="when"), "rows", ARRIVED)
    assert "a, b, t" in raised.value.cure
