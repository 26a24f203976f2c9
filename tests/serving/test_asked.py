"""An asked row has a key and an event time."""

from datetime import UTC, datetime

import polars as pl
import pytest

from tidemill.data.moments import MOMENT
from tidemill.data.rows import RowReader
from tidemill.errors import DataError
from tidemill.serving.asked import keys_of, moments_of

READER = RowReader(())


def test_keys_are_text_joined_and_empty_where_a_part_is_missing() -> None:
    frame = READER.read_json([{"k": "UA", "n": 12}, {"k": None, "n": 3}], ("k", "n"))
    assert keys_of(frame, ("k", "n")) == ["UA|12", ""]
    assert keys_of(frame, ("k", "absent")) == ["", ""]
    with pytest.raises(DataError, match="row 1: column 'k'"):
        READER.read_json([{"k": "a"}, {"k": 1}], ("k",))


def test_an_absent_time_is_the_moment_of_asking() -> None:
    now = pl.Series([datetime(2020, 1, 1, tzinfo=UTC)] * 2, dtype=MOMENT)
    given = datetime(2013, 1, 1, tzinfo=UTC)
    frame = READER.read_json([{"t": "2013-01-01T00:00:00Z"}, {}], ("t",))
    assert moments_of(frame, "t", now).to_list() == [given, now[1]]
    assert moments_of(frame, "", now).to_list() == now.to_list()
