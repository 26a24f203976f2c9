"""Check and Verdict: everything that judges, and every decision, in one shape."""

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

Outcome = Literal["pass", "warn", "fail", "undecided"]
Action = Literal[
    "proceed",
    "stop",
    "retrain",
    "recall",
    "collect",
    "promote",
    "step_up",
    "hold",
    "rollback",
    "experiment",
    "ignore",
]


class Verdict(Struct, frozen=True, kw_only=True):
    """What a check found on a subject, the action it calls for, and the evidence in numbers.

    A step that returns a Verdict has it stored with its run; `action = "stop"` ends the run there.
    """

    check: str
    subject: str
    outcome: Outcome
    action: Action
    reason: str
    evidence: dict[str, Any] = {}
    reference: str = ""
    id: str = ""
    environment: str = ""
    run: str = ""
    model: str = ""
    time: datetime | None = None

    @property
    def quiet(self) -> bool:
        """Whether it calls for nothing to be done."""
        return self.action in ("proceed", "hold", "ignore")

    @property
    def stops(self) -> bool:
        return self.action == "stop"
