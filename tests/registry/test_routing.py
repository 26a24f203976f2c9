"""Routes: each change is a new version, none is lost, and of two at once one is told."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tidemill.clock import SystemClock, VirtualClock
from tidemill.core.route import Arm, Route
from tidemill.errors import Conflict
from tidemill.journal.board import FileBoard
from tidemill.ledger.ledger import Ledger
from tidemill.registry.routing import change, current, history, with_share
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
        given: dict[str, Any] = {"environment": "test", "model": "late", "kind": "manual", "reason": "a test"} | more
        given.setdefault("before", current(self.books, given["environment"], given["model"]))
        return change(self.books, self.board, self.clock, arms=arms, **given)


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_change_is_in_force_and_published(desk: Desk) -> None:
    assert current(desk.books, "test", "late") is None
    first = desk.change(arm(1))
    second = desk.change(arm(2, 0.5), arm(1, 0.5), by="Ada", verdict="v")
    assert (first.version, second.version, second.previous, second.by) == (1, 2, first.id, "Ada")
    assert current(desk.books, "test", "late") == second
    assert desk.board.routes() == {"late": second}
    assert history(desk.books, "test", "late") == [first, second]


def test_changes_of_one_moment_are_in_their_order(desk: Desk) -> None:
    """On a virtual clock many changes have the same moment, and ids of one moment are in no order."""
    for version in range(1, 30):
        assert desk.change(arm(version)).version == version
    in_force = current(desk.books, "test", "late")
    assert in_force is not None
    assert in_force.arms == (arm(29),)


def test_models_and_environments_are_apart(desk: Desk) -> None:
    desk.change(arm(1))
    assert desk.change(arm(1), model="full").version == 1
    assert desk.change(arm(1), environment="production").version == 1
    assert current(desk.books, "test", "nothing") is None


def test_of_two_changes_at_once_one_is_told_and_publishes_nothing(desk: Desk, tmp_path: Path) -> None:
    won = run_in_processes(3, _change_many, tmp_path)
    routes = history(desk.books, "test", "late")
    assert [route.version for route in routes] == list(range(1, sum(won) + 1))
    assert [route.previous for route in routes] == ["", *(route.id for route in routes[:-1])]
    assert desk.board.routes()["late"] == routes[-1]


def test_what_was_decided_on_a_route_that_is_gone_is_not_done(desk: Desk) -> None:
    first = desk.change(arm(1))
    by_hand = desk.change(arm(2), by="Ada")
    with pytest.raises(Conflict, match="somebody else has changed the route of late meanwhile"):
        desk.change(arm(3), before=first)
    with pytest.raises(Conflict):
        desk.change(arm(3), before=None)
    assert desk.board.routes()["late"] == by_hand


def test_a_share_is_changed_and_the_release_stays() -> None:
    changed = with_share(arm(1), 0.2, "challenger")
    assert (changed.release, changed.share, changed.role) == ("late/1", 0.2, "challenger")
    assert with_share(arm(1), 0.2).role == "champion"


def _change_many(place: int, folder: Path) -> int:
    desk = Desk(folder)
    desk.clock = SystemClock()  # type: ignore[assignment]
    won = 0
    for _ in range(10):
        try:
            desk.change(arm(place))
        except Conflict:
            continue
        won += 1
    return won
