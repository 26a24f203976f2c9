"""What policies came to over the same part of history: the result of a backtest."""

from datetime import datetime

from msgspec import Struct


class Span(Struct, frozen=True):
    """The part of history that is replayed: [begin, end)."""

    begin: datetime
    end: datetime


class Moment(Struct, frozen=True):
    """A line of the timeline: what happened (`kind`), what it was about, and why."""

    time: datetime
    kind: str
    text: str


class Outcome(Struct, frozen=True, kw_only=True):
    """What one policy came to."""

    name: str
    predictions: int
    labels: int
    runs: dict[str, int]
    verdicts: dict[str, dict[str, int]]
    promotions: int
    rollbacks: int
    stops: int
    trainings: int
    training_seconds: float
    seconds: float
    metrics: dict[str, float]
    weeks: list[tuple[datetime, int, float]]
    releases: list[str]
    timeline: list[Moment]


class Comparison(Struct, frozen=True, kw_only=True):
    """What all policies came to, on the same predictions."""

    project: str
    model: str
    metric: str
    part: Span
    planted: list[str]
    outcomes: list[Outcome]
    cost_of_training: float
    seconds: float

    def of(self, name: str) -> Outcome:
        """The outcome of a policy."""
        return next(outcome for outcome in self.outcomes if outcome.name == name)
