"""Stages: the stage of a release in an environment, computed from the routes of its model."""

from collections.abc import Sequence
from typing import Literal

from tidemill.core.route import Route

Stage = Literal["candidate", "shadow", "canary", "production", "retired"]


def find_stage(release: str, routes: Sequence[Route]) -> Stage:
    """Return the stage of a release from the routes of its model, oldest first; the last route is the current one.

    A `retired` release served requests before, a `candidate` never did; a challenger with a shadow arm is a canary.
    """
    roles = {arm.role for arm in routes[-1].arms if arm.release == release} if routes else set()
    if roles & {"champion", "bound"}:
        return "production"
    if "challenger" in roles:
        return "canary"
    if "shadow" in roles:
        return "shadow"
    has_served = any(arm.release == release and arm.role != "shadow" for route in routes for arm in route.arms)
    return "retired" if has_served else "candidate"
