"""Stages: what a release does in an environment, read from its routes and kept nowhere else."""

from collections.abc import Sequence
from typing import Literal

from tidemill.core.route import Route

Stage = Literal["candidate", "shadow", "canary", "production", "retired"]


def stage_of(release: str, routes: Sequence[Route]) -> Stage:
    """The stage of a release by the routes of its model, oldest first: the last one is in force.

    `retired` has answered before, `candidate` never has; a challenger that shadows, too, is a canary.
    """
    roles = {arm.role for arm in routes[-1].arms if arm.release == release} if routes else set()
    if "champion" in roles:
        return "production"
    if "challenger" in roles:
        return "canary"
    if "shadow" in roles:
        return "shadow"
    answered = any(arm.release == release and arm.role != "shadow" for route in routes for arm in route.arms)
    return "retired" if answered else "candidate"
