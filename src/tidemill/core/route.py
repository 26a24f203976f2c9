"""Route: the releases that serve a model in one environment, with their roles and shares."""

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
    "unknown",  # recorded by an older version of Tidemill
]


class Arm(Struct, frozen=True, kw_only=True):
    """A release in a route; `share` is its share of the requests (0 for a shadow)."""

    release: str
    version: int
    package: str
    role: Role
    share: float = 0.0


class Route(Struct, frozen=True, kw_only=True):
    """The arms that serve `model` in `environment`; each change is a new version.

    `since` is the time of the change, `change` its kind, `reason` a text for display, `verdict` the id of the verdict
    that caused it, and `by` the policy or the person. `back` is true if the change restored an earlier champion.
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
        """Return the first arm with that role."""
        return next((arm for arm in self.arms if arm.role == role), None)
