"""The stage of a release follows from its routes."""

from datetime import UTC, datetime

from tidemill.core.route import Arm, Role, Route
from tidemill.registry.stages import find_stage


def route(version: int, *arms: tuple[int, Role]) -> Route:
    return Route(
        id=str(version),
        environment="production",
        model="late",
        version=version,
        arms=tuple(Arm(release=f"late/{n}", version=n, package="", role=role) for n, role in arms),
        since=datetime(2026, 1, version, tzinfo=UTC),
        reason="",
    )


def test_a_release_passes_through_its_stages() -> None:
    routes = [route(1, (1, "champion")), route(2, (1, "champion"), (2, "challenger"), (2, "shadow"))]
    assert [find_stage(f"late/{n}", routes) for n in (1, 2, 3)] == ["production", "canary", "candidate"]
    routes += [route(3, (2, "champion"), (3, "shadow"))]
    assert [find_stage(f"late/{n}", routes) for n in (1, 2, 3)] == ["retired", "production", "shadow"]
    routes += [route(4, (1, "champion"))]
    assert [find_stage(f"late/{n}", routes) for n in (1, 2, 3)] == ["production", "retired", "candidate"]
    assert find_stage("late/1", []) == "candidate"
