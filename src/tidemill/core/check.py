"""Check and Verdict: everything that judges, and every decision, in one shape."""

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
    "step_up",
    "hold",
    "rollback",
    "experiment",
    "ignore",
]


class Verdict(Struct, frozen=True, kw_only=True):
    """The result of a check.

    A step can return a verdict, or a list of them. They are stored with the run, and the action `stop` stops
    the run.

    Attributes
    ----------
    check
        The name of the check.
    subject
        The object that was judged, such as a release or a batch.
    outcome
        The result; `undecided` means that there are too few rows.
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
        The run that made it.
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
    def quiet(self) -> bool:
        """Whether it calls for nothing to be done."""
        return self.action in ("proceed", "hold", "ignore")

    def read(self, kind: type[E]) -> E:
        """The evidence as the type of its check; keys that the type does not have are left out."""
        return convert(self.evidence, kind)

    @property
    def stops(self) -> bool:
        return self.action == "stop"


class SchemaEvidence(Struct, frozen=True, kw_only=True):
    """What the schema check found in a batch: its rows, the version that it was compared with, and the anomalies."""

    rows: int = 0
    schema_version: int = 0
    anomalies: list[dict[str, Any]] = []


class PerformanceEvidence(Struct, frozen=True, kw_only=True):
    """Which metric a verdict on live performance is about."""

    metric: str = ""
