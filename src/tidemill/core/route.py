"""Route: which releases answer in one environment, in which role and share."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

Role = Literal["champion", "challenger", "shadow"]
RouteChange = Literal[
    "first",  # the first release of the model
    "direct",  # a later release at full share, without a canary
    "canary",  # a challenger with a part of the traffic
    "step",  # another share for the challenger
    "promote",  # the challenger became the champion, by a verdict
    "rollback",  # back to the champion, or to an earlier one, by a verdict
    "recall",  # an earlier release whose input regime returned
    "manual",  # a person promoted or rolled back
    "unknown",  # recorded by a version that kept only the text
]


class Arm(Struct, frozen=True, kw_only=True):
    """A release that takes part: `share` is its part of the answered requests (a shadow answers none)."""

    release: str
    version: int
    package: str
    role: Role
    share: float = 0.0


class Route(Struct, frozen=True, kw_only=True):
    """Version `version` of the arms that serve `model` in `environment`; each change is a new version.

    `since` is when these arms came into force, `change` is what kind of change it was, `reason` is a text for display,
    `verdict` the id of the verdict that caused it, `by` who did it; `back` is whether it restored an earlier champion.
    """

    id: str
    environment: str
    model: str
    version: int
    arms: tuple[Arm, ...]
    since: datetime
    reason: str
    change: RouteChange = "unknown"
    by: str = "policy"
    verdict: str = ""
    previous: str = ""
    back: bool = False

    def arm(self, role: Role) -> Arm | None:
        """The first arm in that role."""
        return next((arm for arm in self.arms if arm.role == role), None)
