"""Conformance suite of online stores: the newest values of each entity, and atomic writes."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tidemill.core.resources import Online
from tidemill.testing.processes import run_in_processes

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


class OnlineSuite:
    """Subclass it and define `opener`, a picklable function that opens the same store, and `elsewhere`.

    ::

        class TestMyOnline(OnlineSuite):
            @pytest.fixture
            def opener(self, tmp_path):
                return partial(MyOnline, tmp_path / "online")

            @pytest.fixture
            def elsewhere(self, tmp_path):
                return MyOnline(tmp_path / "elsewhere")
    """

    @pytest.fixture
    def opener(self) -> Callable[[], Online]:
        """Return a function that opens the same store, in any process; the store is empty at first."""
        raise NotImplementedError("define the fixture `opener`")

    @pytest.fixture
    def elsewhere(self) -> Online:
        """Another store, which is empty."""
        raise NotImplementedError("define the fixture `elsewhere`")

    @pytest.fixture
    def online(self, opener: Callable[[], Online]) -> Online:
        return opener()

    def test_values_are_returned_in_the_requested_order(self, online: Online) -> None:
        online.write("weather", [("JFK", NOON, {"wind": 3.5}), ("EWR", NOON, {"wind": 1.0})])
        assert online.read("weather", ["EWR", "LGA", "JFK", "EWR"]) == [
            (NOON, {"wind": 1.0}),
            None,
            (NOON, {"wind": 3.5}),
            (NOON, {"wind": 1.0}),
        ]

    def test_entities_of_an_empty_store_are_unknown(self, online: Online) -> None:
        assert online.read("weather", ["JFK"]) == [None]
        assert online.read("weather", []) == []

    def test_values_keep_their_types(self, online: Online) -> None:
        values = {"f": 0.1 + 0.2, "i": 2**53 + 1, "b": True, "t": "Zürich|'\"\\", "n": None, "big": "x" * 100_000}
        online.write("weather", [("JFK", NOON, values)])
        (found,) = online.read("weather", ["JFK"])
        assert found == (NOON, values)
        assert found is not None
        assert [type(value) for value in found[1].values()] == [type(value) for value in values.values()]

    def test_views_are_separate(self, online: Online) -> None:
        online.write("weather", [("JFK", NOON, {"wind": 3.5})])
        assert online.read("delays", ["JFK"]) == [None]

    def test_the_views_that_have_rows_are_listed(self, online: Online) -> None:
        assert online.views() == []
        online.write("weather", [("JFK", NOON, {"wind": 3.5})])
        online.write("delays", [("UA", NOON, {"late": 0.1})])
        assert online.views() == ["delays", "weather"]

    def test_erase_deletes_only_matching_entities(self, online: Online) -> None:
        online.write("weather", [(name, NOON, {"wind": 1.0}) for name in ("JFK", "EWR", "LGA")])
        online.write("delays", [("JFK", NOON, {"late": 0.1})])
        assert online.erase("weather", lambda entity: entity != "LGA", dry_run=True) == 2
        assert None not in online.read("weather", ["JFK", "EWR", "LGA"])
        assert online.erase("weather", lambda entity: entity != "LGA") == 2
        assert online.read("weather", ["JFK", "EWR", "LGA"]) == [None, None, (NOON, {"wind": 1.0})]
        assert online.read("delays", ["JFK"]) == [(NOON, {"late": 0.1})]
        assert online.erase("weather", lambda _: True) == 1
        assert online.views() == ["delays"]

    def test_an_export_fills_another_store(self, online: Online, elsewhere: Online) -> None:
        assert list(online.export()) == []
        online.write("weather", [("JFK", NOON, {"wind": 3.5, "text": "Zürich"}), ("EWR", NOON - HOUR, {"wind": None})])
        elsewhere.load(online.export())
        entities = ["JFK", "EWR", "LGA"]
        assert elsewhere.read("weather", entities) == online.read("weather", entities)

    def test_a_newer_row_is_never_replaced_by_an_older(self, online: Online) -> None:
        online.write("weather", [("JFK", NOON, {"wind": 2.0})])
        online.write("weather", [("JFK", NOON - HOUR, {"wind": 1.0}), ("EWR", NOON - HOUR, {"wind": 1.0})])
        assert online.read("weather", ["JFK", "EWR"]) == [(NOON, {"wind": 2.0}), (NOON - HOUR, {"wind": 1.0})]
        online.write("weather", [("JFK", NOON + HOUR, {"wind": 3.0})])
        assert online.read("weather", ["JFK"]) == [(NOON + HOUR, {"wind": 3.0})]

    def test_row_with_an_equal_time_replaces_the_old_one(self, online: Online) -> None:
        online.write("weather", [("JFK", NOON, {"wind": 2.0})])
        online.write("weather", [("JFK", NOON, {"wind": 2.5})])
        assert online.read("weather", ["JFK"]) == [(NOON, {"wind": 2.5})]

    def test_failed_write_is_rolled_back(self, online: Online) -> None:
        def breaking() -> Iterator[tuple[str, datetime, dict[str, Any]]]:
            yield "JFK", NOON, {"wind": 2.0}
            raise RuntimeError("the source is missing")

        with pytest.raises(RuntimeError):
            online.write("weather", breaking())
        with pytest.raises(TypeError):
            online.write("weather", [("JFK", NOON, {"wind": 2.0}), ("EWR", NOON, {"wind": object()})])
        assert online.read("weather", ["JFK", "EWR"]) == [None, None]
        online.write("weather", [("JFK", NOON, {"wind": 1.0})])
        assert online.read("weather", ["JFK"]) == [(NOON, {"wind": 1.0})]

    def test_a_reader_sees_all_of_a_write_or_none(self, opener: Callable[[], Online]) -> None:
        entities = [str(index) for index in range(200)]
        online = opener()

        def write(version: int) -> None:
            moment = NOON + timedelta(seconds=version)
            online.write("weather", [(entity, moment, {"version": version}) for entity in entities])

        def read(_: int) -> None:
            found = opener().read("weather", entities[:1])[0]
            assert found is None or found[0] == NOON + timedelta(seconds=found[1]["version"])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda index: write(index) if index % 2 else read(index), range(40)))
        assert {row[1]["version"] for row in online.read("weather", entities) if row} == {39}

    def test_processes_create_and_write_it_at_once(self, opener: Callable[[], Online]) -> None:
        run_in_processes(3, _write_many, opener)
        found = opener().read("weather", ["all", *(f"own-{index}" for index in range(3))])
        assert found[0] is not None
        assert found[0][0] == NOON + timedelta(seconds=49)
        assert [row[1]["writer"] for row in found[1:] if row] == [0, 1, 2]


def _write_many(index: int, opener: Callable[[], Online]) -> None:
    online = opener()
    for second in range(50):
        moment = NOON + timedelta(seconds=second)
        online.write("weather", [("all", moment, {"writer": index}), (f"own-{index}", moment, {"writer": index})])
