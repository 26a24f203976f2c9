"""Publication: what a command reports is on the board, and the board is repaired from the ledger."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.registry.test_routing import Desk, arm
from tidemill.core.release import Release
from tidemill.errors import TidemillError
from tidemill.registry.publication import publish_routes
from tidemill.registry.rollout import Deployer
from tidemill.testing.processes import run_in_processes


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize("version", [1, 2, 7])
def test_a_route_of_another_ledger_is_replaced_whatever_its_version_is(desk: Desk, version: int) -> None:
    foreign = replace(desk.change(arm(1)), id="of another ledger", version=version, arms=(arm(9),))
    current = desk.change(arm(2))
    desk.board.publish(foreign, replaces=current.id)
    assert desk.board.routes()["late"] == foreign
    assert publish_routes(desk.books, desk.board, "test") == [current]
    assert desk.board.routes()["late"] == current
    desk.board.publish(foreign, replaces=current.id)
    changed = desk.change(arm(3))
    assert desk.board.routes()["late"] == changed
    assert publish_routes(desk.books, desk.board, "test") == []


def test_a_change_while_the_board_is_away_says_so_and_is_published_when_it_is_back(desk: Desk, tmp_path: Path) -> None:
    first = desk.change(arm(1))
    (tmp_path / "routes").rename(tmp_path / "aside")
    with pytest.raises(TidemillError, match="version 2 of the route of late is in the ledger, but not in production"):
        desk.change(arm(2))
    assert not (tmp_path / "routes").exists()
    (tmp_path / "aside").rename(tmp_path / "routes")
    assert desk.board.routes()["late"] == first
    (second,) = publish_routes(desk.books, desk.board, "test")
    assert desk.board.routes()["late"] == second
    assert second.version == 2


def _promote(number: int, folder: Path) -> str:
    desk = Desk(folder)
    release = Release(
        id=f"release-{number}",
        name="late",
        version=number + 1,
        package=f"p{number}",
        flavor="lightgbm",
        environment="test",
        created=desk.clock.now(),
    )
    with desk.books.transaction():
        desk.books.releases.add(release)
    route = Deployer(desk.books, desk.board, desk.clock, "test").promote(release.label, "Ada", "a test")
    return route.id


def test_promotions_at_the_same_time_all_succeed(desk: Desk, tmp_path: Path) -> None:
    ids = run_in_processes(4, _promote, tmp_path)
    routes = desk.books.routes.find(environment="test", model="late")
    assert sorted(route.id for route in routes) == sorted(ids)
    assert sorted(route.version for route in routes) == list(range(1, 5))
    assert desk.board.routes()["late"] == max(routes, key=lambda route: route.version)
