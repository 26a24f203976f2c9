"""The releases that were in production earlier, from the routes of a model, oldest first."""

from collections.abc import Sequence
from itertools import groupby

from tidemill.core.route import Arm, Route


def list_champions(routes: Sequence[Route]) -> list[Arm]:
    """Return the champions, oldest first; a restored champion occurs more than once."""
    champions = [arm for route in routes if (arm := route.arm("champion"))]
    return [next(same) for _, same in groupby(champions, lambda arm: arm.release)]


def list_restorable(routes: Sequence[Route]) -> list[Arm]:
    """Return the champions without those that were rolled back; the last one is the champion now."""
    champions: list[Arm] = []
    for route in routes:
        champion = route.arm("champion")
        if route.back and champions:
            champions.pop()  # this champion was rolled back; do not restore it
        elif champion and (not champions or champions[-1].release != champion.release):
            champions.append(champion)
    return champions


def find_bound_before(routes: Sequence[Route], value: str) -> Arm | None:
    """Return the release that was bound to a value before the current one, and was not rolled back."""
    bound: list[Arm] = []
    for route in routes:
        arm = route.find_bound(value)
        if arm is None:
            bound.clear()
        elif not bound or bound[-1].release != arm.release:
            bound = bound[:-1] if route.back and len(bound) > 1 else [*bound, arm]
    return bound[-2] if len(bound) > 1 else None
