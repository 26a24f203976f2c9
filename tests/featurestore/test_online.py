"""The embedded online store where the disk refuses; what every online store promises is in tests/conformance."""

import resource
from pathlib import Path

from tests.processes import in_child
from tidemill.featurestore.online import SqliteOnline
from tidemill.testing.online import NOON


def test_a_full_disk_is_told_and_the_values_before_are_served(tmp_path: Path) -> None:
    told = in_child(
        f"""
        from pathlib import Path
        from tidemill.featurestore.online import SqliteOnline
        from tidemill.testing.online import NOON
        online = SqliteOnline(Path({str(tmp_path / "online.db")!r}))
        online.write("weather", [("JFK", NOON, {{"wind": 1.0}})])
        explain(lambda: online.write("weather", [("JFK", NOON, {{"note": "x" * 2_000_000}})]))
        print(online.read("weather", ["JFK"])[0][1])
        """,
        limits={resource.RLIMIT_FSIZE: 500_000},
    )
    assert told.startswith("TidemillError: 1 rows of view 'weather' could not be written")
    assert told.endswith("{'wind': 1.0}\n")
    assert SqliteOnline(tmp_path / "online.db").read("weather", ["JFK"]) == [(NOON, {"wind": 1.0})]
