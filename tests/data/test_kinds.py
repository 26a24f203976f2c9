"""Sources of every kind: new rows are a batch, changed rows are read again, a missing source is an error."""

import os
import shutil
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from deltalake import DeltaTable, write_deltalake
from obstore.store import from_url
from sqlalchemy import create_engine, text

from tidemill.core.source import Source
from tidemill.data.source import FileSources
from tidemill.errors import ConfigurationError, DataError, InputError, MissingExtra, TidemillError

NOW = datetime(2100, 1, 1, tzinfo=UTC)
DAY = datetime(2013, 3, 1, 12)
Rows = list[tuple[int, datetime, float]]


class Reader:
    """Reads what is new of one source since it looked last, as an ingestion does."""

    def __init__(self, folder: Path, **source: Any) -> None:
        self.seen: set[str] = set()
        self.sources = FileSources(folder, {"rows": Source(**{"path": "", **source})}, accepted=lambda: self.seen)

    def new(self) -> list[list[int]]:
        """The numbers in each new batch."""
        batches = [batch for batch in self.sources.batches("rows", NOW) if batch.id not in self.seen]
        self.seen |= {batch.id for batch in batches}
        return [sorted(self.sources.read(batch)["number"].to_list()) for batch in batches]


def rows(*numbers: int) -> Rows:
    return [(number, DAY + timedelta(days=number // 10), number / 2) for number in numbers]


def frame(*numbers: int) -> pl.DataFrame:
    return pl.DataFrame(rows(*numbers), schema=["number", "at", "half"], orient="row")


def into_database(url: str, *numbers: int) -> None:
    engine = create_engine(url)
    kind = "timestamp with time zone" if url.startswith("postgres") else "timestamp"
    with engine.begin() as connection:
        connection.execute(
            text(f'CREATE TABLE IF NOT EXISTS "Größe" (number integer, "at" {kind}, half double precision)')
        )
        for number, at, half in rows(*numbers):
            connection.execute(
                text('INSERT INTO "Größe" VALUES (:number, :at, :half)'),
                {"number": number, "at": str(at), "half": half},
            )
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'shop.db'}"
    url: str = request.getfixturevalue("postgres_url")
    return url


def test_every_row_that_has_its_number_is_read(database: str, tmp_path: Path) -> None:
    into_database(database, -1, -15_000, -10_000, 0, 9_999)
    engine = create_engine(database)
    with engine.begin() as connection:
        connection.execute(text('UPDATE "Größe" SET number = NULL WHERE number = -1'))
    engine.dispose()
    reader = Reader(tmp_path, path=database, table="Größe", growing="number", time="at")
    assert sorted(reader.new()) == [[-15_000], [-10_000], [0, 9_999]]
    empty = FileSources(
        tmp_path, {"rows": Source(path=database, query='SELECT * FROM "Größe" WHERE 1 = 0', growing="number")}
    )
    with pytest.raises(DataError, match="has no rows yet"):
        empty.source_history("rows")


@pytest.mark.parametrize("growing", ["number", "at"])
def test_of_a_growing_table_only_blocks_with_new_rows_are_read(database: str, tmp_path: Path, growing: str) -> None:
    into_database(database, 1, 2, 10_001)
    reader = Reader(tmp_path, path=database, table="Größe", growing=growing, time="at")
    assert reader.new() == [[1, 2], [10_001]]
    assert reader.new() == []
    into_database(database, 10_002)
    assert reader.new() == [[10_001, 10_002]]
    into_database(database, 3)  # late, into an old block: it comes again, whole
    assert reader.new() == [[1, 2, 3]]
    paths = [batch.path for batch in reader.sources.batches("rows", NOW)]
    assert len(set(paths)) == 2
    assert "tidemill@" not in paths[0] or ":***" not in paths[0]
    times = reader.sources.read(reader.sources.batches("rows", NOW)[0])["_tidemill_time"]
    assert times.min() == DAY.replace(tzinfo=UTC)


def test_a_query_without_a_growing_column_is_read_again_when_its_result_changes(database: str, tmp_path: Path) -> None:
    into_database(database, 1, 2, 30)
    query = 'SELECT number, half FROM "Größe" WHERE number < 20;'
    reader = Reader(tmp_path, path=database, query=query)
    assert reader.new() == [[1, 2]]
    into_database(database, 40)
    assert reader.new() == []
    into_database(database, 3)
    assert reader.new() == [[1, 2, 3]]


def test_a_relative_sqlite_file_is_beside_the_project_and_a_secret_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    into_database(f"sqlite:///{tmp_path / 'shop.db'}", 1)
    assert Reader(tmp_path, path="sqlite:///shop.db", table="Größe").new() == [[1]]
    monkeypatch.setenv("SHOP", "shop.db")
    assert Reader(tmp_path, path="sqlite:///${SHOP}", table="Größe").new() == [[1]]
    with pytest.raises(ConfigurationError, match="needs the environment variable ELSEWHERE"):
        Reader(tmp_path, path="sqlite:///${ELSEWHERE}", table="Größe").new()


def test_duckdb_queries_files_and_databases(tmp_path: Path) -> None:
    duckdb = pytest.importorskip("duckdb")
    frame(1, 2).write_parquet(tmp_path / "a.parquet")
    reader = Reader(tmp_path, path=":memory:", query="SELECT * FROM 'a.parquet' WHERE half > 0.5", time="at")
    assert reader.new() == [[2]]
    assert reader.new() == []
    with duckdb.connect(str(tmp_path / "shop.duckdb")) as connection:
        connection.execute(f"CREATE TABLE shop AS SELECT * FROM '{tmp_path / 'a.parquet'}'")
    grown = Reader(tmp_path, path="shop.duckdb", table="shop", growing="at", kind="duckdb", time="at")
    assert grown.new() == [[1, 2]]


def test_each_version_of_a_delta_table_that_appended_is_a_batch(tmp_path: Path) -> None:
    place = str(tmp_path / "lake")
    write_deltalake(place, frame(1, 2))
    write_deltalake(place, frame(3), mode="append")
    reader = Reader(tmp_path, path="lake", time="at")
    assert reader.new() == [[1, 2], [3]]
    write_deltalake(place, frame(4, 5), mode="append")
    DeltaTable(place).optimize.compact()
    assert reader.new() == [[4, 5]]
    assert reader.new() == []
    before_it = datetime.now(UTC)
    write_deltalake(place, frame(9), mode="overwrite")
    write_deltalake(place, frame(10), mode="append")
    assert reader.new() == [[9], [10]]
    assert len(reader.sources.batches("rows", before_it)) == 3
    shutil.rmtree(place)
    with pytest.raises(DataError, match="no Delta table"):
        Reader(tmp_path, path="lake", kind="delta").new()


def test_a_delta_table_whose_rows_change_is_read_again_whole(tmp_path: Path) -> None:
    place = str(tmp_path / "lake")
    write_deltalake(place, frame(1, 2, 13))
    reader = Reader(tmp_path, path="lake", time="at")
    assert reader.new() == [[1, 2, 13]]
    merge = DeltaTable(place).merge(frame(2, 4), "old.number = new.number", source_alias="new", target_alias="old")
    merge.when_not_matched_insert_all().execute()
    assert reader.new() == [[4]]
    merge = DeltaTable(place).merge(frame(2, 5), "old.number = new.number", source_alias="new", target_alias="old")
    merge.when_matched_update_all().when_not_matched_insert_all().execute()
    assert reader.new() == [[1, 2, 4, 5, 13]]
    DeltaTable(place).delete("number = 1")
    write_deltalake(place, frame(6), mode="append")
    assert reader.new() == [[2, 4, 5, 13], [6]]
    write_deltalake(place, frame(3), mode="overwrite", predicate="number < 10")
    DeltaTable(place).update(predicate="number = 13", updates={"half": "0.0"})
    assert reader.new() == [[3, 13]]
    paths = [batch.path.rpartition("#")[2] for batch in reader.sources.batches("rows", NOW)]
    assert paths == ["6+0"]
    DeltaTable(place).restore(4)
    assert reader.new() == [[2, 4, 5, 6, 13]]


def test_what_is_inside_a_project_is_called_as_the_project_calls_it(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "lake"), frame(1))
    into_database(f"sqlite:///{tmp_path / 'shop.db'}", 1)
    for source, name in (
        (Source(path="lake"), "lake#0"),
        (Source(path="sqlite:///shop.db", table="Größe"), "sqlite:///shop.db Größe#all"),
        (Source(path=f"sqlite:///{tmp_path}/shop.db", table="Größe"), f"sqlite:///{tmp_path}/shop.db Größe#all"),
    ):
        (batch,) = FileSources(tmp_path, {"rows": source}).batches("rows", NOW)
        assert batch.path == name


def test_a_delta_table_whose_log_was_cleaned_up_continues_where_it_was(tmp_path: Path) -> None:
    place = str(tmp_path / "lake")
    kept = {"delta.logRetentionDuration": "interval 1 seconds"}
    write_deltalake(place, frame(1, 2), configuration=kept)
    write_deltalake(place, frame(3), mode="append")
    DeltaTable(place).delete("number = 1")
    followed, late = Reader(tmp_path, path="lake", time="at"), Reader(tmp_path, path="lake", time="at")
    assert followed.new() == [[2, 3]]
    for number in (4, 5):
        write_deltalake(place, frame(number), mode="append")
    assert followed.new() == [[4], [5]]
    DeltaTable(place).create_checkpoint()
    time.sleep(1.1)
    DeltaTable(place).cleanup_metadata()
    write_deltalake(place, frame(6), mode="append")
    assert min(int(commit["version"]) for commit in DeltaTable(place).history()) > 2, "the log of the DELETE is gone"
    assert followed.new() == [[6]]
    paths = [batch.path.rpartition("#")[2] for batch in followed.sources.batches("rows", NOW)]
    assert paths[-1] == "2+3"
    assert late.new() == [[2, 3, 4, 5], [6]]
    assert late.new() == []


def test_a_delta_table_that_was_vacuumed_is_begun_with_what_is_left(tmp_path: Path) -> None:
    place = str(tmp_path / "lake")
    write_deltalake(place, frame(1, 2))
    followed = Reader(tmp_path, path="lake", time="at")
    assert followed.new() == [[1, 2]]
    write_deltalake(place, frame(3), mode="append")
    DeltaTable(place).optimize.compact()
    DeltaTable(place).vacuum(dry_run=False, retention_hours=0, enforce_retention_duration=False)
    write_deltalake(place, frame(4), mode="append")
    assert followed.new() == Reader(tmp_path, path="lake", time="at").new() == [[1, 2, 3], [4]]
    assert followed.new() == []
    DeltaTable(place).delete("number = 1")
    assert followed.new() == [[2, 3, 4]]


def test_what_is_put_back_is_new_again_and_what_was_kept_is_not(tmp_path: Path) -> None:
    reader = Reader(tmp_path, path="*.csv", time="at")
    file, kept = tmp_path / "a.csv", tmp_path / "kept"
    frame(1).write_csv(file)
    assert reader.new() == [[1]]
    file.rename(kept)
    for number in (2, 3):
        frame(number).write_csv(file)
        assert reader.new() == [[number]]
    kept.replace(file)
    assert reader.new() == [[1]]
    assert reader.new() == []
    identities = [identity.partition("+")[2] for identity in reader.seen]
    assert sorted(identities) == ["", "1", "2", "3"]


def test_files_of_one_name_in_several_folders_are_several_batches(tmp_path: Path) -> None:
    for day in (1, 2):
        (tmp_path / f"day={day}").mkdir()
        frame(day).write_csv(tmp_path / f"day={day}" / "part-0.csv")
        os.utime(tmp_path / f"day={day}" / "part-0.csv", (1e9, 1e9))
    reader = Reader(tmp_path, path="**/*.csv", time="at")
    assert reader.new() == [[1], [2]]
    assert len(reader.seen) == 2


def test_a_folder_of_a_delta_table_may_be_called_as_people_call_folders(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "Meine Häuser", path="see in 北京")
    write_deltalake(str(tmp_path / "Meine Häuser" / "see in 北京"), frame(1, 2))
    assert reader.new() == [[1, 2]]


def test_versions_of_a_partitioned_delta_table_have_all_their_columns(tmp_path: Path) -> None:
    write_deltalake(str(tmp_path / "lake"), frame(1, 20).with_columns(kind=pl.lit("a")), partition_by=["kind"])
    sources = FileSources(tmp_path, {"rows": Source(path="lake")})
    (batch,) = sources.batches("rows", NOW)
    assert sources.raw(batch).columns == ["number", "at", "half", "kind"]
    for file in (tmp_path / "lake").rglob("*.parquet"):
        file.unlink()
    with pytest.raises(DataError, match="cannot be read any more") as gone:
        sources.raw(batch)
    assert "VACUUM" in gone.value.cure


def test_objects_that_fit_a_pattern_are_batches(s3_url: str, tmp_path: Path) -> None:
    store = from_url(s3_url)
    for name in ("days/1.parquet", "days/2.parquet", "days/deep/3.parquet", "days/4.csv"):
        number = int(Path(name).stem)
        content = frame(number).write_csv().encode() if name.endswith("csv") else b""
        if not content:
            frame(number).write_parquet(tmp_path / "one")
            content = (tmp_path / "one").read_bytes()
        store.put(name, content)
    reader = Reader(tmp_path, path=f"{s3_url}/days/*.parquet", time="at")
    assert sorted(reader.new()) == [[1], [2]]
    assert reader.new() == []
    assert sorted(Reader(tmp_path, path=f"{s3_url}/days/**/*.parquet").new()) == [[1], [2], [3]]
    assert Reader(tmp_path, path=f"{s3_url}/days/4.csv").new() == [[4]]
    with pytest.raises(DataError, match="no file matches"):
        Reader(tmp_path, path=f"{s3_url}/nights/*.parquet").new()
    with pytest.raises(DataError, match="source 'rows' cannot be read from"):
        Reader(tmp_path, path=f"{s3_url}-that-is-not-there/*.parquet").new()


HANDS: dict[str, Callable[[pl.DataFrame], Any]] = {
    "polars": lambda frame: frame,
    "lazy": lambda frame: frame.lazy(),
    "pandas": lambda frame: frame.to_pandas(),
    "arrow": lambda frame: frame.to_arrow(),
}


@pytest.mark.parametrize("hand", HANDS.values(), ids=HANDS)
def test_a_frame_in_hand_is_a_source(tmp_path: Path, hand: Callable[[pl.DataFrame], Any]) -> None:
    sources = FileSources(tmp_path, {"rows": Source(path="", time="at")}, {"rows": hand(frame(1, 2))})
    (batch,) = sources.batches("rows", NOW)
    assert sources.read(batch)["_tidemill_time"].to_list() == [DAY.replace(tzinfo=UTC)] * 2
    (same,) = FileSources(tmp_path, {"rows": Source(path="")}, {"rows": frame(1, 2)}).batches("rows", NOW)
    assert same.id == batch.id or hand is not HANDS["polars"]


def test_what_is_no_frame_is_reported(tmp_path: Path) -> None:
    for wrong in ([1, 2], pd.DataFrame({0: [object()]})):
        with pytest.raises(DataError) as raised:
            FileSources(tmp_path, {"rows": Source(path="")}, {"rows": wrong}).batches("rows", NOW)
        assert raised.value.cure


WRONG: dict[str, tuple[str, dict[str, str], type[TidemillError], str]] = {
    "no database": ("sqlite:///nothing.db", {"table": "t"}, DataError, "there is no database"),
    "no table": ("sqlite:///shop.db", {"table": "t"}, DataError, "no such table: t"),
    "a query that fails": ("sqlite:///shop.db", {"query": "SELECT FROM"}, DataError, "syntax error"),
    "no column": (
        "sqlite:///shop.db",
        {"table": "Größe", "growing": "id"},
        DataError,
        "no column 'id' to grow",
    ),
    "table and query": (
        "sqlite:///shop.db",
        {"table": "a", "query": "b"},
        ConfigurationError,
        "a table or a query",
    ),
    "neither": ("sqlite:///shop.db", {}, InputError, "a table or a query"),
    "no driver": ("oracle://x/y", {"table": "t"}, DataError, "needs a driver"),
    "no such dialect": ("nothing://x/y", {"table": "t"}, ConfigurationError, "SQLAlchemy has no dialect for 'nothing'"),
    "no server": (
        "postgresql+psycopg://u:secret@127.0.0.1:1/d",
        {"table": "t"},
        DataError,
        "cannot be read from",
    ),
    "no duck file": ("nothing.duckdb", {"table": "t"}, DataError, "cannot be read from nothing.duckdb"),
    "no delta": ("folder", {"kind": "delta"}, DataError, "no Delta table"),
}


@pytest.mark.parametrize(("path", "source", "error", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_read_is_reported_on_one_line_with_a_cure(
    tmp_path: Path, path: str, source: dict[str, str], error: type[TidemillError], message: str
) -> None:
    into_database(f"sqlite:///{tmp_path / 'shop.db'}", 1)
    with pytest.raises(error) as raised:
        Reader(tmp_path, path=path, **source).new()
    assert message in raised.value.problem
    assert raised.value.cure
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_sql_source_without_sqlalchemy_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    into_database(f"sqlite:///{tmp_path / 'shop.db'}", 1)
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    with pytest.raises(MissingExtra, match="sqlalchemy is not installed") as missing:
        Reader(tmp_path, path="sqlite:///shop.db", table="Größe").new()
    assert missing.value.cure == "pip install 'tidemill[sql]'"
