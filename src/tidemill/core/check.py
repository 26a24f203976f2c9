"""Verdict: the result of a check, in one form for all checks."""

from datetime import datetime
from typing import Any, Literal, TypeVar

from msgspec import Struct, convert

E = TypeVar("E", bound=Struct)

Outcome = Literal["pass", "warn", "fail", "undecided"]
Action = Literal[
    "proceed",
    "stop",
    "retrain",
    "recall",
    "collect",
    "promote",
    "step",
    "hold",
    "rollback",
    "experiment",
    "ignore",
]

QUIET_ACTIONS = "proceed", "step", "hold", "ignore"
"""The actions that nobody has to know of: a verdict with one of them is no event, and sends no alert."""


class Verdict(Struct, frozen=True, kw_only=True):
    """The result of a check.

    A step can return a verdict, or a list of them. They are stored with the run, and the action `stop` stops
    the run; so does `collect` of an undecided one, which needs more rows.

    Attributes
    ----------
    check
        The name of the check.
    subject
        The object that was judged, such as a release or a batch.
    outcome
        The result; `undecided` means that there are too few rows for a decision.
    action
        What the result calls for.
    reason
        The reason, for people.
    evidence
        The numbers behind the reason.
    reference
        What the subject was compared with.
    id
        The id in the ledger.
    environment
        The environment.
    run
        The run of the check.
    model
        The model.
    time
        When.
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
    def needs_no_action(self) -> bool:
        """Return whether the verdict calls for no action."""
        return self.action in QUIET_ACTIONS

    def read(self, kind: type[E]) -> E:
        """Return the evidence as the type of its check, without the keys that the type does not have."""
        return convert(self.evidence, kind)

    @property
    def stops(self) -> bool:
        """Return whether the verdict stops the run; an undecided verdict that needs more rows also stops it."""
        return self.action == "stop" or (self.outcome == "undecided" and self.action == "collect")


class SchemaEvidence(Struct, frozen=True, kw_only=True):
    """The evidence of a schema check: the rows and the path of the batch, the schema's version, and the anomalies.

    `spellings` are those of the label columns that were in force. `bounds` are those of one file, if it is beyond them.
    A batch that could not be read for a reason that may end is `temporary`.
    """

    rows: int = 0
    path: str = ""
    schema_version: int = 0
    anomalies: list[dict[str, Any]] = []
    spellings: dict[str, dict[str, str]] = {}
    bounds: dict[str, int] = {}
    temporary: bool = False

    @property
    def is_readable(self) -> bool:
        """Return whether the batch could be read as a table."""
        return not any(anomaly.get("kind") == "unreadable" for anomaly in self.anomalies)


class TrafficEvidence(Struct, frozen=True, kw_only=True):
    """The evidence of the check of a canary: the share of the requests that its challenger should serve."""

    share: float


class PerformanceEvidence(Struct, frozen=True, kw_only=True):
    """The evidence of a check of live performance: the metric."""

    metric: str = ""
