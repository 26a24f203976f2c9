"""A journal with a buffer: its readers see the same rows as those of a journal that writes each part at once."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.errors import DataError
from tidemill.journal.buffered import BufferedJournal
from tidemill.journal.files import FileJournal

START = datetime(2013, 3, 1, tzinfo=UTC)
KIND = "labels/late"


def rows(begin: int, count: int, column: str = "value") -> pl.DataFrame:
    known = [START + timedelta(hours=begin + index) for index in range(count)]
    return pl.DataFrame(
        {"known_at": known, column: [begin + index for index in range(count)]},
        schema={"known_at": pl.Datetime("us", "UTC"), column: pl.Int64},
    )


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["value", "other"]), st.booleans()), max_size=50),
    st.integers(-1, 130),
    st.integers(-1, 130),
)
def test_readers_see_the_same_rows(parts: list[tuple[int, str, bool]], since: int, until: int) -> None:
    with TemporaryDirectory() as folder:
        plain = FileJournal(Path(folder) / "plain")
        buffered = BufferedJournal(FileJournal(Path(folder) / "buffered"))
        begin = 0
        for count, column, is_flushed in parts:
            for journal in (plain, buffered):
                journal.append(KIND, rows(begin, count, column))
            if is_flushed:
                buffered.flush()
            begin += count
            bounds = START + timedelta(hours=since), START + timedelta(hours=until)
            expected = plain.read(KIND, *bounds)
            assert (
                buffered.read(KIND, *bounds)
                .select(sorted(expected.columns))
                .equals(expected.select(sorted(expected.columns)))
            )
        assert buffered.kinds() == plain.kinds()


def test_all_rows_are_in_the_files_after_a_flush(tmp_path: Path) -> None:
    buffered = BufferedJournal(FileJournal(tmp_path))
    for begin in range(100):
        buffered.append(KIND, rows(begin, 1))
    buffered.flush()
    assert FileJournal(tmp_path).read(KIND)["value"].to_list() == list(range(100))
    assert len(list(tmp_path.rglob("*.arrow"))) < 10


def test_rows_in_memory_are_erased_and_exported_too(tmp_path: Path) -> None:
    buffered = BufferedJournal(FileJournal(tmp_path / "journal"))
    buffered.append(KIND, rows(0, 4))
    assert buffered.erase(KIND, lambda found: found["value"] == 2) == 1
    buffered.append(KIND, rows(4, 1))
    copy = FileJournal(tmp_path / "copy")
    copy.load(buffered.export())
    assert sorted(copy.read(KIND)["value"]) == [0, 1, 3, 4]


def test_rows_without_a_time_are_refused_at_once(tmp_path: Path) -> None:
    buffered = BufferedJournal(FileJournal(tmp_path))
    with pytest.raises(DataError, match="no UTC column 'known_at'"):
        buffered.append(KIND, pl.DataFrame({"value": [1]}))
    assert buffered.kinds() == []
