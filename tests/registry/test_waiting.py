"""The release that waits for the end of a canary."""

from pathlib import Path

from tests.registry.test_rollout import Dock
from tidemill.core.release import Release
from tidemill.registry.routing import list_routes
from tidemill.registry.waiting import find_waiting


def find(dock: Dock) -> Release | None:
    return find_waiting(dock.books, "test", "late", list_routes(dock.books, "test", "late"))


def test_the_newest_release_waits_until_a_person_decides(tmp_path: Path) -> None:
    dock = Dock(tmp_path)
    for _ in range(2):
        dock.release()
    assert find(dock) is None
    for _ in range(2):
        dock.release()
    assert find(dock) == dock.books.releases.find(name="late", version=4)[0]
    dock.deployer.promote("late/1", "Ada", "because")
    assert find(dock) is None
