"""Route: which releases answer in one environment, in which role and share."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

Role = Literal["champion", "challenger", "shadow"]


class Arm(Struct, frozen=True, kw_only=True):
    """A release that takes part: `share` is its part of the answered requests (a shadow answers none)."""

    release: str
    version: int
    package: str
    role: Role
    share: float = 0.0


class Route(Struct, frozen=True, kw_only=True):
    """Version `version` of who answers for `model` in `environment`; a change is a new version, none is lost.

    `since` is when the present arms were put in place, `reason` and `verdict` say why, `by` who did it; `back` is
    whether a champion of before was brought back.
    """

    id: str
    environment: str
    model: str
    version: int
    arms: tuple[Arm, ...]
    since: datetime
    reason: str
    by: str = "policy"
    verdict: str = ""
    previous: str = ""
    back: bool = False

    def arm(self, role: Role) -> Arm | None:
        """The first arm in that role."""
        return next((arm for arm in self.arms if arm.role == role), None)
