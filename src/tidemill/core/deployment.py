"""Deployment: a version of what an environment runs, which is one build of the project."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

DeploymentState = Literal["waiting", "starting", "healthy", "failed", "replaced", "stopped"]
DeploymentChange = Literal["first", "push", "promote", "rollback", "restore", "move"]
"""`rollback`: by a person; `restore`: by Tidemill, because the next deployment did not become healthy;
`move`: the same build with other settings of its environment, such as another target."""


class Deployment(Struct, frozen=True, kw_only=True):
    """Version `version` of an environment: the `build` that runs there, who deployed it, and its state.

    Attributes
    ----------
    build
        The id of the build.
    change
        How it came about.
    by
        The person or the trigger that deployed it.
    reason
        Why.
    run
        The run that deploys it.
    verdicts
        The ids of the verdicts that allowed it.
    previous
        The id of the deployment that it replaced; empty for the first one.
    target
        The kind of target, such as `local`.
    address
        Where its service answers once it is healthy.
    state
        Its state; one deployment of an environment is `healthy`, `starting` or `waiting` at a time.
    healthy
        When it became healthy.
    ended
        When it was replaced, or failed.
    problem
        Why it failed.
    """

    id: str
    environment: str
    version: int
    build: str
    change: DeploymentChange
    state: DeploymentState
    time: datetime
    by: str
    reason: str = ""
    run: str = ""
    verdicts: tuple[str, ...] = ()
    previous: str = ""
    target: str = "local"
    address: str = ""
    healthy: datetime | None = None
    ended: datetime | None = None
    problem: str = ""


class EnvironmentStatus(Struct, frozen=True, kw_only=True):
    """What serves in an environment, and the newest build that could come next, with what it lacks."""

    environment: str
    serving: str = ""
    since: datetime | None = None
    address: str = ""
    next_build: str = ""
    next_number: int = 0
    missing: str = ""
