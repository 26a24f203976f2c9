"""Route: the releases that serve a model in one environment, with their roles and shares."""

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from msgspec import Struct

from tidemill.core.audit import POLICY

Role = Literal["champion", "challenger", "shadow", "bound"]
"""The role of a release: a bound one serves the rows of one value of the key, a champion all other rows."""
RouteChange = Literal[
    "first",  # the first release of the model
    "direct",  # a later release at full share, without a canary
    "canary",  # a challenger with a part of the traffic
    "step",  # another share for the challenger
    "promote",  # the challenger became the champion, by a verdict
    "rollback",  # back to the champion, or to an earlier one, by a verdict
    "recall",  # an earlier release whose input regime returned
    "bind",  # a release serves the rows of one value of the key
    "unbind",  # the champion, or an earlier release, serves the rows of a value again
    "key",  # another column names the regimes, or none
    "manual",  # a person promoted or rolled back
    "unknown",  # recorded by an older version of Tidemill
]


class Arm(Struct, frozen=True, kw_only=True):
    """A release in a route; `share` is its share of the requests that no bound release serves (0 for a shadow).

    A `bound` release serves all rows whose key has the value `value`. `signature` is that of the release.
    """

    release: str
    version: int
    package: str
    role: Role
    share: float = 0.0
    value: str = ""
    signature: str = ""

    @property
    def portion(self) -> str:
        """Return the rows that it serves, for display: a share of the requests, or those of a value of the key."""
        return f"for {self.value}" if self.role == "bound" else f"{self.share:.0%}"


def describe_arms(arms: Sequence[Arm], separator: str = ", ") -> str:
    """Return arms for display; a shadow of a release that also serves is left out."""
    serving = {arm.release for arm in arms if arm.role != "shadow"}
    shown = (arm for arm in arms if arm.role != "shadow" or arm.release not in serving)
    return separator.join(f"{arm.release} ({arm.role}, {arm.portion})" for arm in shown)


class Route(Struct, frozen=True, kw_only=True):
    """The arms that serve `model` in `environment`; each change is a new version.

    `since` is the time of the change, `change` its kind, `reason` a text for display, `verdict` the id of the verdict
    that caused it, and `by` the policy or the person. `back` is true if the change restored an earlier champion, or an
    earlier bound release. `key` is the column whose value assigns a row to a bound release; without it, there is none.
    """

    id: str
    environment: str
    model: str
    version: int
    arms: tuple[Arm, ...]
    since: datetime
    reason: str
    change: RouteChange = "unknown"
    by: str = POLICY
    verdict: str = ""
    previous: str = ""
    back: bool = False
    key: str = ""

    @property
    def bound(self) -> tuple[Arm, ...]:
        """Return the arms that are bound to a value of the key."""
        return tuple(arm for arm in self.arms if arm.role == "bound")

    def find_bound(self, value: str) -> Arm | None:
        """Return the arm that is bound to a value of the key; None if the champion serves its rows."""
        return next((arm for arm in self.bound if arm.value == value), None)

    def arm(self, role: Role) -> Arm | None:
        """Return the first arm with that role."""
        return next((arm for arm in self.arms if arm.role == role), None)
