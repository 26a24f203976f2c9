"""The embedded online store on a full disk; tests/conformance has the tests of every online store."""

import resource
from pathlib import Path

from tests.processes import in_child
from tidemill.featurestore.online import SqliteOnline
from tidemill.testing.online import NOON


def test_a_full_disk_is_reported_and_the_previous_values_are_served(tmp_path: Path) -> None:
    output = in_child(
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
    assert output.startswith("TidemillError: 1 rows of view 'weather' could not be written")
    assert output.endswith("{'wind': 1.0}\n")
    assert SqliteOnline(tmp_path / "online.db").read("weather", ["JFK"]) == [(NOON, {"wind": 1.0})]
