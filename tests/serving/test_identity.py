"""A requested row has a key and an event time."""

from datetime import UTC, datetime

import polars as pl
import pytest

from tidemill.data.rows import RowReader
from tidemill.data.timestamps import TIMESTAMP
from tidemill.errors import DataError
from tidemill.serving.identity import read_event_times, read_keys

READER = RowReader(())


def test_keys_are_text_joined_and_empty_where_a_part_is_missing() -> None:
    frame = READER.read_json([{"k": "UA", "n": 12}, {"k": None, "n": 3}], ("k", "n"))
    assert read_keys(frame, ("k", "n")) == ["UA|12", ""]
    assert read_keys(frame, ("k", "absent")) == ["", ""]
    with pytest.raises(DataError, match="row 1: column 'k'"):
        READER.read_json([{"k": "a"}, {"k": 1}], ("k",))


def test_an_absent_time_is_the_time_of_the_request() -> None:
    now = pl.Series([datetime(2020, 1, 1, tzinfo=UTC)] * 2, dtype=TIMESTAMP)
    sent = datetime(2013, 1, 1, tzinfo=UTC)
    frame = READER.read_json([{"t": "2013-01-01T00:00:00Z"}, {}], ("t",))
    assert read_event_times(frame, "t", now).to_list() == [sent, now[1]]
    assert read_event_times(frame, "", now).to_list() == now.to_list()
