"""The batches that a table has are read from its log once, also after a checkpoint and after other processes wrote."""

from pathlib import Path

import polars as pl
from deltalake import DeltaTable
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.journal.appended import AppendedBatches
from tidemill.journal.tables import DeltaTables

ROWS = pl.DataFrame({"x": [1]})


def test_each_batch_is_found_after_a_checkpoint_whose_first_entries_are_gone(tmp_path: Path) -> None:
    tables = DeltaTables(str(tmp_path))
    for number in range(4):
        tables.append("rows", f"rows/{number}", ROWS)
    DeltaTable(tmp_path / "rows").create_checkpoint()
    for entry in sorted((tmp_path / "rows" / "_delta_log").glob("*.json"))[:3]:
        entry.unlink()
    other = DeltaTables(str(tmp_path))
    other.append("rows", "rows/4", ROWS)
    opened = DeltaTable(tmp_path / "rows")
    table, version = str(opened.metadata().id), opened.version()
    assert AppendedBatches(tmp_path / "rows").read(table, version) == {f"rows/{number}" for number in range(5)}
    for number in range(5):
        assert other.append("rows", f"rows/{number}", ROWS) == version
    assert tables.read("rows", version).height == 5


def test_without_its_log_nothing_is_known(tmp_path: Path) -> None:
    DeltaTables(str(tmp_path)).append("rows", "a", ROWS)
    (entry,) = (tmp_path / "rows" / "_delta_log").glob("*.json")
    entry.unlink()
    assert AppendedBatches(tmp_path / "rows").read("id", 0) is None


def test_a_table_that_was_made_again_has_other_batches(tmp_path: Path) -> None:
    tables = DeltaTables(str(tmp_path))
    for batch in ("a", "b"):
        tables.append("rows", batch, ROWS)
    tables.drop("rows")
    for batch in ("c", "d", "a"):
        tables.append("rows", batch, ROWS)
    assert tables.read("rows", tables.version("rows")).height == 3


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.lists(st.integers(0, 9), min_size=1, max_size=4)), max_size=8))
def test_two_writers_append_each_batch_once(tmp_path_factory: object, steps: list[tuple[int, list[int]]]) -> None:
    folder = tmp_path_factory.mktemp("tables")  # type: ignore[attr-defined]  # a factory of pytest
    writers = [DeltaTables(str(folder)), DeltaTables(str(folder))]
    expected: set[int] = set()
    for writer, batches in steps:
        frames = {f"b{batch}": pl.DataFrame({"x": [batch]}) for batch in batches}
        writers[writer].append_all("rows", frames)
        expected |= set(batches)
    if expected:
        assert sorted(writers[0].read("rows", writers[0].version("rows"))["x"]) == sorted(expected)
