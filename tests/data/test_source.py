"""Sources: batches as they arrive, and histories of what was known."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from tidemill.core.feature import Entity, FeatureView
from tidemill.core.source import Source
from tidemill.data.source import FileSources
from tidemill.errors import DataError, NotFound

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)
VIEW = FeatureView(name="v", entity=Entity("e", ("k",)), source="rows", columns=("x",))


def write(folder: Path, name: str, arrived: datetime, *rows: tuple[str, str, int]) -> None:
    frame = pl.DataFrame(rows, schema=["k", "t", "x"], orient="row")
    frame.write_csv(folder / name)
    os.utime(folder / name, (arrived.timestamp(), arrived.timestamp()))


@pytest.fixture
def sources(tmp_path: Path) -> FileSources:
    write(tmp_path, "b.csv", NOON, ("JFK", "2013-03-01T10:00:00Z", 1))
    write(tmp_path, "a.csv", NOON + timedelta(hours=1), ("JFK", "2013-03-01T11:00:00Z", 2))
    return FileSources(
        tmp_path, {"rows": Source(path="*.csv", time="t", delay="30m"), "register": Source(path="b.csv")}
    )


def test_batches_come_in_the_order_of_their_arrival(sources: FileSources) -> None:
    assert [Path(b.path).name for b in sources.batches("rows", NOON + timedelta(hours=2))] == ["b.csv", "a.csv"]
    assert [Path(b.path).name for b in sources.batches("rows", NOON)] == ["b.csv"]
    assert sources.batches("rows", NOON - timedelta(seconds=1)) == []


def test_a_file_that_changes_is_another_batch(sources: FileSources, tmp_path: Path) -> None:
    before = sources.batches("rows", NOON)[0]
    assert sources.batches("rows", NOON)[0].id == before.id
    write(tmp_path, "b.csv", NOON, ("JFK", "2013-03-01T10:00:00Z", 100))
    assert sources.batches("rows", NOON)[0].id != before.id


def test_rows_have_their_times(sources: FileSources) -> None:
    (batch,) = sources.batches("rows", NOON)
    rows = sources.read(batch)
    assert rows["_tidemill_time"].to_list() == [NOON - timedelta(hours=2)]
    assert rows["_tidemill_known_at"].to_list() == [NOON - timedelta(hours=1, minutes=30)]


def test_history_is_what_was_known(sources: FileSources) -> None:
    early, late = NOON - timedelta(hours=1), NOON + timedelta(days=1)
    assert sources.history(VIEW, early)["x"].to_list() == [1]
    assert sorted(sources.history(VIEW, late)["x"]) == [1, 2]
    assert sources.history(VIEW, NOON - timedelta(days=1)).is_empty()


def test_history_is_read_again_when_its_files_change(sources: FileSources, tmp_path: Path) -> None:
    late = NOON + timedelta(days=1)
    assert sources.history(VIEW, late).height == 2
    write(tmp_path, "c.csv", NOON, ("EWR", "2013-03-01T09:00:00Z", 3))
    assert sources.history(VIEW, late).height == 3


def test_a_register_without_times_holds_always(sources: FileSources) -> None:
    view = FeatureView(name="v", entity=Entity("e", ("k",)), source="register", columns=("x",))
    assert sources.history(view, datetime(1980, 1, 1, tzinfo=UTC)).height == 1


def test_what_is_not_there_is_reported(tmp_path: Path) -> None:
    sources = FileSources(tmp_path, {"rows": Source(path="*.csv"), "seas": Source(path="seas.csv")})
    with pytest.raises(NotFound, match="no source is called 'raws'") as unknown:
        sources.batches("raws", NOON)
    assert "rows, seas" in unknown.value.cure
    with pytest.raises(DataError, match="no file matches the path of source 'rows'") as missing:
        sources.batches("rows", NOON)
    assert "tidemill.toml" in missing.value.cure
