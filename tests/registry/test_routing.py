"""Routes: each change is a new version, none is lost, and of two changes at once one fails."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tidemill.clock import SystemClock, VirtualClock
from tidemill.core.route import Arm, Route
from tidemill.errors import Conflict
from tidemill.journal.board import FileBoard
from tidemill.ledger.ledger import Ledger
from tidemill.registry.routing import change_route, find_current_route, list_routes, set_share
from tidemill.testing.processes import run_in_processes

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


def arm(version: int, share: float = 1.0) -> Arm:
    return Arm(release=f"late/{version}", version=version, package=f"p{version}", role="champion", share=share)


class Desk:
    def __init__(self, folder: Path) -> None:
        self.books = Ledger(f"sqlite:///{folder / 'ledger.db'}")
        self.board = FileBoard(folder / "routes")
        self.clock = VirtualClock(NOON)

    def change(self, *arms: Arm, **more: Any) -> Route:
        arguments: dict[str, Any] = {
            "environment": "test",
            "model": "late",
            "kind": "manual",
            "reason": "a test",
        } | more
        arguments.setdefault("before", find_current_route(self.books, arguments["environment"], arguments["model"]))
        return change_route(self.books, self.board, self.clock, arms=arms, **arguments)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_change_is_current_and_published(desk: Desk) -> None:
    assert find_current_route(desk.books, "test", "late") is None
    first = desk.change(arm(1))
    second = desk.change(arm(2, 0.5), arm(1, 0.5), by="Ada", verdict="v")
    assert (first.version, second.version, second.previous, second.by) == (1, 2, first.id, "Ada")
    assert find_current_route(desk.books, "test", "late") == second
    assert desk.board.routes() == {"late": second}
    assert list_routes(desk.books, "test", "late") == [first, second]


def test_changes_at_the_same_time_are_ordered(desk: Desk) -> None:
    """On a virtual clock many changes have the same time, and ids of the same time have no order."""
    for version in range(1, 30):
        assert desk.change(arm(version)).version == version
    in_force = find_current_route(desk.books, "test", "late")
    assert in_force is not None
    assert in_force.arms == (arm(29),)


def test_models_and_environments_are_separate(desk: Desk) -> None:
    desk.change(arm(1))
    assert desk.change(arm(1), model="full").version == 1
    assert desk.change(arm(1), environment="production").version == 1
    assert find_current_route(desk.books, "test", "nothing") is None


def test_of_two_changes_at_once_one_fails_and_publishes_nothing(desk: Desk, tmp_path: Path) -> None:
    changes = run_in_processes(3, _change_many, tmp_path)
    routes = list_routes(desk.books, "test", "late")
    assert [route.version for route in routes] == list(range(1, sum(changes) + 1))
    assert [route.previous for route in routes] == ["", *(route.id for route in routes[:-1])]
    assert desk.board.routes()["late"] == routes[-1]


def test_a_change_of_an_outdated_route_is_an_error(desk: Desk) -> None:
    first = desk.change(arm(1))
    manual = desk.change(arm(2), by="Ada")
    with pytest.raises(Conflict, match="another process has changed the route of late meanwhile"):
        desk.change(arm(3), before=first)
    with pytest.raises(Conflict):
        desk.change(arm(3), before=None)
    assert desk.board.routes()["late"] == manual


def test_set_share_keeps_the_release() -> None:
    changed = set_share(arm(1), 0.2, "challenger")
    assert (changed.release, changed.share, changed.role) == ("late/1", 0.2, "challenger")
    assert set_share(arm(1), 0.2).role == "champion"


def _change_many(version: int, folder: Path) -> int:
    desk = Desk(folder)
    desk.clock = SystemClock()  # type: ignore[assignment]
    count = 0
    for _ in range(10):
        try:
            desk.change(arm(version))
        except Conflict:
            continue
        count += 1
    return count
