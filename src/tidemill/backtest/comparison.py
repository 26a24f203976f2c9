"""What policies came to over the same part of history: the result of a backtest."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import numpy as np
from msgspec import Struct

from tidemill.core.check import Action, Outcome
from tidemill.core.route import Arm, RouteChange
from tidemill.data.metrics import Floats

Ending = Literal[
    "first", "live", "promoted", "rolled back", "refused", "failed", "the same", "on trial", "waiting", "superseded"
]
_DRAWS = 4000


class Period(Struct, frozen=True):
    """The part of history that is replayed: [begin, end)."""

    begin: datetime
    end: datetime


class Disturbance(Struct, frozen=True, order=True):
    """What a backtest put on top of the history: a replaced delivery, or a pipeline that a person started."""

    day: str
    about: str


class TimelineEntry(Struct, frozen=True, kw_only=True):
    """A line of the timeline: a route that changed, a verdict that calls for an action, or a run that failed.

    `subject` is the model of a route, what a verdict judges, or the pipeline of a run. `verdict` is the id of the
    verdict itself, or of the verdict that caused the route. `reason` is for display only.
    """

    time: datetime
    kind: Literal["route", "verdict", "failure"]
    subject: str
    reason: str
    check: str = ""
    outcome: Outcome | Literal[""] = ""
    action: Action | Literal[""] = ""
    change: RouteChange | Literal[""] = ""
    arms: list[Arm] = []
    verdict: str = ""

    @property
    def label(self) -> str:
        """A verdict by its check; else the kind."""
        return self.check or self.kind

    @property
    def text(self) -> str:
        """The line for display."""
        if self.kind == "route":
            arms = " and ".join(f"{arm.release} ({arm.role}, {arm.share:.0%})" for arm in self.arms)
            return f"{arms}: {self.reason}"
        return f"{self.subject}: {self.reason}" + (f" → {self.action}" if self.action else "")


class Judged(Struct, frozen=True, kw_only=True):
    """A verdict as a story tells it: its reason, and the numbers and intervals behind it."""

    time: datetime
    check: str
    subject: str
    outcome: str
    action: str
    reason: str
    numbers: dict[str, Any] = {}


class Case(Struct, frozen=True, kw_only=True):
    """One training, from its cause over its gate and its trial on live traffic to its end.

    `cause` is the verdict that called for it, if one did; `due` when it was asked for, `ended` when it was settled.
    """

    number: int
    run: str
    pipeline: str
    trigger: str
    due: datetime
    started: datetime
    cause: Judged | None = None
    gate: Judged | None = None
    release: str = ""
    live: datetime | None = None
    trial: Judged | None = None
    ending: Ending
    ended: datetime | None = None
    said: str = ""


class PolicyResult(Struct, frozen=True, kw_only=True):
    """What one policy came to.

    `weeks` are (begin, labelled rows, their mean loss); `causes` counts the trainings by what called for them: a
    check, or the trigger where no verdict did. What depends on the machine is in `seconds` and `training_seconds`.
    """

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
    timeline: list[TimelineEntry]
    cases: list[Case] = []
    seed: int = 0

    @property
    def causes(self) -> dict[str, int]:
        """How many trainings each cause had: the check that called for them, or else the trigger."""
        named = [case.cause.check if case.cause else case.trigger for case in self.cases]
        return {name: named.count(name) for name in sorted(set(named))}


class LossDifference(Struct, frozen=True, kw_only=True):
    """The mean loss of the first policy less that of another, per prediction, with its interval over `weeks`."""

    mean: float
    low: float
    high: float
    weeks: int


class SeedComparison(Struct, frozen=True, kw_only=True):
    """The first policy against another under one seed: their losses, their trainings, and the paired difference."""

    policy: str
    seed: int
    loss: float
    other: float
    trainings: int
    other_trainings: int
    difference: LossDifference


class BacktestResult(Struct, frozen=True, kw_only=True):
    """What all policies came to, on the same predictions; `trials` has each other policy under every seed."""

    project: str
    model: str
    metric: str
    part: Period
    planted: list[Disturbance]
    outcomes: list[PolicyResult]
    cost_of_training: float
    seconds: float
    shuffled: bool = False
    repeats: list[PolicyResult] = []

    def of(self, name: str) -> PolicyResult:
        """The outcome of a policy."""
        return next(outcome for outcome in self.outcomes if outcome.name == name)

    def seeds_of(self, name: str) -> list[PolicyResult]:
        """The outcomes of a policy under every seed."""
        return [one for one in (*self.outcomes, *self.repeats) if one.name == name]

    @property
    def trials(self) -> list[SeedComparison]:
        """The first policy against each other one, seed by seed."""
        first = {one.seed: one for one in self.seeds_of(self.outcomes[0].name)}
        return [
            SeedComparison(
                policy=other.name,
                seed=other.seed,
                loss=mean_loss([first[other.seed]]),
                other=mean_loss([other]),
                trainings=first[other.seed].trainings,
                other_trainings=other.trainings,
                difference=difference([first[other.seed]], [other]),
            )
            for name in (one.name for one in self.outcomes[1:])
            for other in self.seeds_of(name)
            if other.weeks and first[other.seed].weeks
        ]

    def difference(self, name: str) -> LossDifference:
        """The first policy less another, over all seeds."""
        return difference(self.seeds_of(self.outcomes[0].name), self.seeds_of(name))


def mean_loss(outcomes: Sequence[PolicyResult]) -> float:
    """The mean loss of all their predictions."""
    rows, losses = _tables(outcomes, sorted(_weeks(outcomes[0])))
    return float((rows * losses).sum() / rows.sum())


def difference(
    ones: Sequence[PolicyResult], others: Sequence[PolicyResult], confidence: float = 0.95
) -> LossDifference:
    """The paired difference of two policies, each under the same seeds, over all their predictions.

    The interval is that of a block bootstrap (Künsch 1989): whole weeks are drawn, and with them seeds, so that
    neither the weather of a week nor the luck of a seed passes for a difference.
    """
    weeks = sorted(set.intersection(*(_weeks(one) for one in (*ones, *others))))
    rows, mine = _tables(ones, weeks)
    apart = rows * (mine - _tables(others, weeks)[1])
    generator = np.random.default_rng(0)
    seeds = generator.integers(0, len(ones), (_DRAWS, len(ones), 1))
    places = generator.integers(0, len(weeks), (_DRAWS, 1, len(weeks)))
    means = apart[seeds, places].sum(axis=(1, 2)) / rows[seeds, places].sum(axis=(1, 2))
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return LossDifference(mean=float(apart.sum() / rows.sum()), low=float(low), high=float(high), weeks=len(weeks))


def _weeks(outcome: PolicyResult) -> set[datetime]:
    return {begin for begin, _, _ in outcome.weeks}


def _tables(outcomes: Sequence[PolicyResult], weeks: Sequence[datetime]) -> tuple[Floats, Floats]:
    """The labelled rows and the mean losses, each of shape (outcomes, weeks)."""
    found = [{begin: (rows, loss) for begin, rows, loss in one.weeks} for one in outcomes]
    table = np.array([[one[week] for week in weeks] for one in found], dtype=float)
    return table[..., 0], table[..., 1]
