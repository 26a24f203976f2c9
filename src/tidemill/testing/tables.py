"""Conformance suite of stores of tables: atomic appends without duplicates, and immutable versions."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import polars as pl
import pytest

from tidemill.core.resources import Tables
from tidemill.errors import NotFound, TidemillError
from tidemill.testing.processes import run_in_processes


class TablesSuite:
    """Subclass it and define `opener`, a picklable function that opens the same store, and `elsewhere`.

    ::

        class TestMyTables(TablesSuite):
            @pytest.fixture
            def opener(self, tmp_path):
                return partial(MyTables, tmp_path / "tables")

            @pytest.fixture
            def elsewhere(self, tmp_path):
                return MyTables(tmp_path / "elsewhere")
    """

    @pytest.fixture
    def opener(self) -> Callable[[], Tables]:
        """Return a function that opens the same store, in any process; the store is empty at first."""
        raise NotImplementedError("define the fixture `opener`")

    @pytest.fixture
    def elsewhere(self) -> Tables:
        """Another store, which is empty."""
        raise NotImplementedError("define the fixture `elsewhere`")

    @pytest.fixture
    def tables(self, opener: Callable[[], Tables]) -> Tables:
        return opener()

    def test_there_is_no_table_at_first(self, tables: Tables) -> None:
        assert (tables.version("orders"), tables.last_append("orders"), tables.names()) == (-1, -1, [])
        with pytest.raises(NotFound) as refused:
            tables.read("orders", 0)
        assert refused.value.cure

    def test_a_version_never_changes(self, tables: Tables) -> None:
        first = tables.append("orders", "monday", pl.DataFrame({"id": [1, 2], "name": ["Zürich", None]}))
        second = tables.append("orders", "tuesday", pl.DataFrame({"id": [3], "name": ["x"]}))
        assert first < second == tables.version("orders")
        assert tables.read("orders", first).sort("id").rows() == [(1, "Zürich"), (2, None)]
        assert sorted(tables.read("orders", second)["id"]) == [1, 2, 3]
        assert tables.read("orders", second, ["name"]).columns == ["name"]
        with pytest.raises(NotFound):
            tables.read("orders", second + 1)

    def test_a_batch_in_parts_is_appended_once_and_completely(self, tables: Tables) -> None:
        parts = [pl.DataFrame({"id": [1, 2]}), pl.DataFrame({"id": [3], "name": ["x"]}), pl.DataFrame({"id": [4]})]
        version = tables.append_parts("orders", "monday", lambda: parts)
        assert tables.append_parts("orders", "monday", lambda: parts) == version
        assert tables.append("orders", "monday", parts[0]) == version
        rows = tables.read("orders", version).sort("id").select("id", "name").rows()
        assert rows == [(1, None), (2, None), (3, "x"), (4, None)]

        def fail() -> Iterator[pl.DataFrame]:
            yield pl.DataFrame({"id": [5]})
            raise OSError(28, "No space left on device")

        with pytest.raises(TidemillError):
            tables.append_parts("orders", "tuesday", fail)
        assert tables.read("orders", tables.version("orders")).height == 4

    def test_a_batch_is_appended_once(self, tables: Tables, opener: Callable[[], Tables]) -> None:
        version = tables.append("orders", "monday", pl.DataFrame({"id": [1]}))
        assert opener().append("orders", "monday", pl.DataFrame({"id": [1]})) == version
        assert opener().read("orders", version)["id"].to_list() == [1]

    def test_batches_are_appended_together_and_once(self, tables: Tables) -> None:
        tables.append("orders", "monday", pl.DataFrame({"id": [1]}))
        batches = {f"day {day}": pl.DataFrame({"id": [day], "note": [str(day)]}) for day in range(2, 5)}
        version = tables.append_all("orders", batches | {"monday": pl.DataFrame({"id": [1]})})
        assert tables.append_all("orders", batches) == version
        assert tables.append("orders", "day 3", pl.DataFrame({"id": [3]})) == version
        assert tables.read("orders", version).sort("id")["note"].to_list() == [None, "2", "3", "4"]

    def test_tables_are_separate(self, tables: Tables) -> None:
        for name in ("orders", "planes"):
            tables.append(name, "monday", pl.DataFrame({name: [1]}))
        assert tables.names() == ["orders", "planes"]
        assert tables.read("orders", tables.version("orders")).columns == ["orders"]
        tables.drop("orders")
        assert (tables.names(), tables.version("orders")) == (["planes"], -1)

    def test_a_new_column_is_null_in_older_rows(self, tables: Tables) -> None:
        tables.append("orders", "monday", pl.DataFrame({"id": [1]}))
        version = tables.append("orders", "tuesday", pl.DataFrame({"id": [2], "note": ["x"]}))
        assert tables.read("orders", version).sort("id").select("id", "note").rows() == [(1, None), (2, "x")]

    def test_a_value_that_does_not_fit_the_type_is_kept(self, tables: Tables) -> None:
        tables.append("orders", "monday", pl.DataFrame({"amount": [1, 2]}))
        version = tables.append("orders", "tuesday", pl.DataFrame({"amount": [2.5]}))
        assert sorted(tables.read("orders", version)["amount"]) == [1.0, 2.0, 2.5]

    def test_erased_rows_are_in_no_version(self, tables: Tables) -> None:
        first = tables.append("orders", "monday", pl.DataFrame({"id": [1, 2]}))
        second = tables.append("orders", "tuesday", pl.DataFrame({"id": [3]}))

        def is_first_order(rows: pl.DataFrame) -> pl.Series:
            return rows["id"] == 1

        assert tables.erase("orders", is_first_order, dry_run=True) == 1
        assert tables.version("orders") == second
        assert tables.erase("orders", is_first_order) == 1
        assert sorted(tables.read("orders", tables.version("orders"))["id"]) == [2, 3]
        with pytest.raises(TidemillError):
            tables.read("orders", first)
        assert tables.last_append("orders", second) == -1, "an erasure adds no rows"
        assert tables.erase("orders", is_first_order) == tables.erase("nothing", is_first_order) == 0

    def test_last_append_is_the_newest_version_with_new_rows(self, tables: Tables) -> None:
        first = tables.append("orders", "monday", pl.DataFrame({"id": [1]}))
        assert (tables.last_append("orders"), tables.last_append("orders", first)) == (first, -1)
        second = tables.append("orders", "tuesday", pl.DataFrame({"id": [2]}))
        assert tables.last_append("orders", first) == second

    def test_an_export_fills_another_store(self, tables: Tables, elsewhere: Tables) -> None:
        assert list(tables.export()) == []
        first = tables.append("orders", "monday", pl.DataFrame({"id": [1]}))
        second = tables.append("orders", "tuesday", pl.DataFrame({"id": [2]}))
        elsewhere.load(tables.export())
        assert elsewhere.names() == ["orders"]
        for version in (first, second):
            assert elsewhere.read("orders", version).sort("id").equals(tables.read("orders", version).sort("id"))
        assert elsewhere.append("orders", "monday", pl.DataFrame({"id": [1]})) == second

    def test_threads_append_at_once(self, opener: Callable[[], Tables]) -> None:
        def append(index: int) -> None:
            opener().append("orders", f"batch {index % 8}", pl.DataFrame({"id": [index % 8]}))

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(append, range(16)))
        tables = opener()
        assert sorted(tables.read("orders", tables.version("orders"))["id"]) == list(range(8))

    def test_processes_append_at_once(self, opener: Callable[[], Tables]) -> None:
        run_in_processes(2, _append_many, opener)
        tables = opener()
        assert sorted(tables.read("orders", tables.version("orders"))["id"]) == [0, 1, 2, 3, 10, 11, 12, 13]


def _append_many(index: int, opener: Callable[[], Tables]) -> None:
    tables = opener()
    for number in range(4):
        identity = 10 * index + number
        tables.append("orders", f"batch {identity}", pl.DataFrame({"id": [identity]}))
