"""Tables with history: a batch is there once, and a version never changes."""

import resource
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from deltalake import DeltaTable

from tests.processes import in_child
from tidemill.delta import LocalTable
from tidemill.errors import NotFound, TidemillError
from tidemill.journal.tables import DeltaTables
from tidemill.testing.processes import run_in_processes


def frame(*values: int, **columns: list[object]) -> pl.DataFrame:
    return pl.DataFrame({"x": list(values), **columns})


@pytest.fixture
def tables(tmp_path: Path) -> DeltaTables:
    return DeltaTables(str(tmp_path / "tables"))


def test_a_table_that_is_not_there(tables: DeltaTables) -> None:
    assert tables.version("flights") == -1
    with pytest.raises(NotFound, match="table 'flights' does not exist") as missing:
        tables.read("flights", 0)
    assert "ingest" in missing.value.cure


def test_a_version_that_is_not_there(tables: DeltaTables) -> None:
    tables.append("flights", "a", frame(1))
    for version in (7, -1):
        with pytest.raises(NotFound, match="version"):
            tables.read("flights", version)


def test_a_batch_is_there_once(tables: DeltaTables, tmp_path: Path) -> None:
    first = tables.append("flights", "a", frame(1, 2))
    assert tables.append("flights", "a", frame(1, 2)) == first
    assert DeltaTables(str(tmp_path / "tables")).append("flights", "a", frame(1, 2)) == first
    assert tables.append("flights", "b", frame(1, 2)) == first + 1
    assert sorted(tables.read("flights", tables.version("flights"))["x"]) == [1, 1, 2, 2]


def test_a_version_stays_the_same(tables: DeltaTables) -> None:
    first = tables.append("flights", "a", frame(1, 2))
    before = tables.read("flights", first)
    tables.append("flights", "b", frame(3, note=["x"]))
    assert tables.read("flights", first).equals(before)


def test_a_new_column_is_null_in_older_rows_and_a_missing_one_in_newer(tables: DeltaTables) -> None:
    tables.append("flights", "a", frame(1))
    tables.append("flights", "b", frame(2, note=["x"]))
    last = tables.append("flights", "c", frame(3))
    assert tables.read("flights", last).sort("x").rows() == [(1, None), (2, "x"), (3, None)]


def test_another_opening_sees_what_was_appended(tables: DeltaTables, tmp_path: Path) -> None:
    other = DeltaTables(str(tmp_path / "tables"))
    assert other.version("flights") == -1
    for batch in range(3):
        assert tables.append("flights", str(batch), frame(batch)) == batch
        assert other.version("flights") == batch
    assert other.append("flights", "more", frame(9)) == 3
    assert tables.version("flights") == 3


def test_many_batches_are_compacted_and_every_version_stays(tables: DeltaTables) -> None:
    versions = [tables.append("flights", str(batch), frame(batch)) for batch in range(52)]
    assert sorted(versions) == versions
    assert sorted(tables.read("flights", tables.version("flights"))["x"]) == list(range(52))
    assert sorted(tables.read("flights", versions[20])["x"]) == list(range(21))
    assert tables.append("flights", "20", frame(20)) == tables.version("flights")


def test_a_dropped_table_is_gone_and_can_come_again(tables: DeltaTables) -> None:
    tables.append("flights", "a", frame(1))
    tables.drop("flights")
    assert tables.version("flights") == -1
    tables.append("flights", "a", frame(2))
    assert tables.read("flights", 0)["x"].to_list() == [2]
    tables.drop("nothing")


def test_threads_append_different_batches_at_once(tmp_path: Path) -> None:
    root = str(tmp_path / "tables")
    DeltaTables(root).append("flights", "first", frame(-1))

    def append(place: int) -> None:
        DeltaTables(root).append("flights", str(place), frame(place))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(append, range(8)))
    tables = DeltaTables(root)
    assert sorted(tables.read("flights", tables.version("flights"))["x"]) == list(range(-1, 8))


def test_processes_append_the_same_batches_at_once_and_each_is_there_once(tmp_path: Path) -> None:
    root = str(tmp_path / "tables")
    run_in_processes(3, _append_all, root)
    tables = DeltaTables(root)
    assert sorted(tables.read("flights", tables.version("flights"))["x"]) == list(range(10))


def _append_all(_: int, root: str) -> None:
    tables = DeltaTables(root)
    for batch in range(10):
        tables.append("flights", str(batch), frame(batch))


def test_a_column_of_another_kind_is_reported_and_changes_nothing(tables: DeltaTables) -> None:
    tables.append("flights", "a", frame(1))
    with pytest.raises(TidemillError, match=r"column 'x' has the type Int64 .* and List\(Int64\)") as refused:
        tables.append("flights", "b", pl.DataFrame({"x": [[1, 2]]}))
    assert "one type" in refused.value.cure
    assert tables.version("flights") == 0
    assert tables.append("flights", "b", frame(2)) == 1


def test_a_full_disk_is_reported_and_changes_nothing(tmp_path: Path) -> None:
    DeltaTables(str(tmp_path)).append("flights", "a", frame(1))
    reported = in_child(
        f"""
        import random
        from tests.journal.test_tables import frame
        from tidemill.journal.tables import DeltaTables
        tables = DeltaTables({str(tmp_path)!r})
        many = [random.getrandbits(60) for _ in range(100_000)]
        explain(lambda: tables.append("flights", "b", frame(*many)))
        print(tables.version("flights"), tables.read("flights", 0).height)
        """,
        limits={resource.RLIMIT_FSIZE: 200_000},
    )
    assert reported.startswith("TidemillError: batch 'b' could not be appended to table 'flights'")
    assert reported.endswith("\n0 1\n")


def of(value: int) -> Callable[[pl.DataFrame], pl.Series]:
    return lambda found: found["x"] == value


def mentions(folder: Path, text: str) -> list[str]:
    """The files that hold a text, be they compressed Parquet or not."""
    parquet = {file: str(pl.read_parquet(file).to_dicts()) for file in folder.rglob("*.parquet")}
    plain = {file: file.read_text() for file in folder.rglob("*.json")}
    return sorted(file.name for file, content in {**parquet, **plain}.items() if text in content)


def test_erased_rows_leave_every_version_and_the_log(tables: DeltaTables, tmp_path: Path) -> None:
    for batch, value in enumerate([1, 471147114711, 3]):
        tables.append("flights", str(batch), frame(value, name=[f"n{value}"]))
    order = tables.read("flights", 2)["x"].to_list()
    assert tables.erase("flights", of(471147114711), dry_run=True) == 1
    assert tables.version("flights") == 2
    assert tables.erase("flights", of(471147114711)) == 1
    assert tables.read("flights", 3)["x"].to_list() == [value for value in order if value != 471147114711]
    assert tables.read("flights", 0)["x"].to_list() == [1]
    with pytest.raises(NotFound, match="were erased") as gone:
        tables.read("flights", 2)
    assert "newest version, 3" in gone.value.cure
    assert mentions(tmp_path, "471147114711") == []
    assert tables.erase("flights", of(471147114711)) == 0
    assert tables.version("flights") == 3
    assert tables.append("flights", "1", frame(471147114711, name=["n"])) == 3
    assert tables.append("flights", "new", frame(5, name=["n"])) == 4
    assert tables.names() == ["flights"]
    assert tables.erase("nothing", of(1)) == 0


def test_erased_rows_leave_checkpoints_and_joined_files(tables: DeltaTables, tmp_path: Path) -> None:
    for batch in range(50):
        tables.append("flights", str(batch), frame(batch, name=[f"n{batch}"]))
    DeltaTable(str(tmp_path / "tables" / "flights")).create_checkpoint()
    tables.append("flights", "more", frame(471147114711, name=["n49"]))
    assert tables.erase("flights", of(49)) == 1
    assert tables.erase("flights", of(471147114711)) == 1
    assert mentions(tmp_path, "471147114711") == []
    newest = tables.read("flights", tables.version("flights"))
    assert sorted(newest["x"]) == list(range(49))
    assert tables.read("flights", 3).height == 4


def test_erasing_all_rows_leaves_an_empty_table(tables: DeltaTables) -> None:
    tables.append("flights", "a", frame(1, 1))
    assert tables.erase("flights", of(1)) == 2
    assert tables.read("flights", 1).is_empty()
    tables.append("flights", "b", frame(2))
    assert tables.read("flights", 2)["x"].to_list() == [2]


@pytest.mark.parametrize("fault", ["table is rewritten", "table has lost a file"])
def test_an_erasure_that_was_killed_is_done_again(
    tables: DeltaTables, tmp_path: Path, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for batch in range(3):
        tables.append("flights", str(batch), frame(471147114711, batch))
    monkeypatch.setenv("TIDEMILL_FAULT", fault)
    in_child(
        f"""
        from tidemill.journal.tables import DeltaTables
        DeltaTables({str(tmp_path / "tables")!r}).erase("flights", lambda rows: rows["x"] == 471147114711)
        """,
        check=False,
    )
    monkeypatch.delenv("TIDEMILL_FAULT")
    assert sorted(tables.read("flights", 3)["x"]) == [0, 1, 2]
    assert mentions(tmp_path, "471147114711") != []
    assert tables.erase("flights", of(471147114711)) == 0
    assert mentions(tmp_path, "471147114711") == []
    assert sorted(tables.read("flights", tables.version("flights"))["x"]) == [0, 1, 2]


def test_batches_appended_beside_an_erasure_are_all_there(tables: DeltaTables, tmp_path: Path) -> None:
    for batch in range(3):
        tables.append("flights", f"before {batch}", frame(471147114711, -1))

    def append(place: int) -> None:
        DeltaTables(str(tmp_path / "tables")).append("flights", str(place), frame(place))

    with ThreadPoolExecutor(4) as pool:
        appending = [pool.submit(append, place) for place in range(12)]
        assert pool.submit(DeltaTables(str(tmp_path / "tables")).erase, "flights", of(471147114711)).result() == 3
        for one in appending:
            one.result()
    assert sorted(tables.read("flights", tables.version("flights"))["x"]) == [-1, -1, -1, *range(12)]


WIDER = {
    "fractions after whole numbers": ([1], [2.5], [1.0, 2.5]),
    "whole numbers after fractions": ([1.5], [2], [1.5, 2.0]),
    "whole fractions after whole numbers": ([1], [2.0], [1, 2]),
    "words after numbers": ([1], ["two"], ["1", "two"]),
    "numbers after words": (["one"], [2], ["2", "one"]),
    "large after small numbers": (pl.Series([1], dtype=pl.Int32), [2**40], [1, 2**40]),
    "nothing after numbers": ([1], pl.Series([None], dtype=pl.Float64), [None, 1]),
}


@pytest.mark.parametrize(("first", "then", "wanted"), WIDER.values(), ids=WIDER)
def test_no_value_is_cut_to_the_type_that_a_column_had(
    tables: DeltaTables, first: Any, then: Any, wanted: list[Any]
) -> None:
    before = tables.append("rows", "a", pl.DataFrame({"x": first, "y": [1]}))
    last = tables.append("rows", "b", pl.DataFrame({"x": then, "z": [True]}))
    assert tables.append("rows", "b", pl.DataFrame({"x": then})) == last
    found = tables.read("rows", last)
    assert sorted(found["x"].to_list(), key=str) == sorted(wanted, key=str)
    assert found.sort("y", nulls_last=True).select("y", "z").rows() == [(1, None), (None, True)]
    assert tables.read("rows", before)["x"].to_list() == list(first)
    tables.append("rows", "c", pl.DataFrame({"x": first}))


@pytest.mark.parametrize("folder", ["Meine Projekte", "häuser", "a#b", "北京"])
def test_a_folder_may_be_called_as_people_call_folders(tmp_path: Path, folder: str) -> None:
    tables = DeltaTables(str(tmp_path / folder))
    for number in range(2):
        tables.append("rows", f"b{number}", pl.DataFrame({"n": [number]}))
    tables.append("rows", "wider", pl.DataFrame({"n": [0.5]}))
    assert tables.erase("rows", lambda rows: rows["n"] == 1) == 1
    assert sorted(tables.read("rows", tables.version("rows"))["n"]) == [0, 0.5]
    assert tables.last_append("rows", 0) >= 2


@pytest.mark.parametrize("batches", [2, 3, 4])
def test_a_table_that_was_deleted_and_ingested_again_is_the_new_one(tmp_path: Path, batches: int) -> None:
    (tmp_path / "tables").mkdir()
    here, there = DeltaTables(str(tmp_path / "tables")), DeltaTables(str(tmp_path / "tables"))
    for number in range(3):
        here.append("flights", f"b{number}", frame(number))
    shutil.rmtree(tmp_path / "tables" / "flights")
    for number in range(batches):
        there.append("flights", f"c{number}", frame(10 + number))
    new = [10 + number for number in range(batches)]
    assert sorted(here.read("flights", here.version("flights"))["x"]) == new
    here.append("flights", "b1", frame(99))
    assert sorted(there.read("flights", there.version("flights"))["x"]) == [*new, 99]


def test_a_table_that_this_process_appends_to_is_not_opened_again(
    tables: DeltaTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    class Counted(LocalTable):
        def __init__(self, table_uri: str, *args: Any, **kwargs: Any) -> None:
            opened.append(table_uri)
            super().__init__(table_uri, *args, **kwargs)

    monkeypatch.setattr("tidemill.journal.tables.LocalTable", Counted)
    for number in range(5):
        tables.append("flights", f"batch {number}", frame(number))
        assert sorted(tables.read("flights", tables.version("flights"))["x"]) == list(range(number + 1))
    assert len(opened) <= 3, "to find that there is none, to create it, and to read it"
