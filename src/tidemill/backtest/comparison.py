"""The result of a backtest: the results of several policies over the same period of history."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

import numpy as np
from msgspec import Struct, field

from tidemill.core.check import Action, Outcome
from tidemill.core.route import Arm, RouteChange, describe_arms
from tidemill.data.arrays import Floats

Ending = Literal[
    "first", "live", "promoted", "rolled back", "refused", "failed", "unchanged", "canary", "waiting", "superseded"
]
_DRAWS = 4000


class Period(Struct, frozen=True):
    """The period of history that a backtest replays: [begin, end)."""

    begin: datetime
    end: datetime


class Disturbance(Struct, frozen=True, order=True):
    """A change that a backtest makes to the history: a replaced delivery, or a pipeline that a person starts."""

    day: str
    about: str


class TimelineEntry(Struct, frozen=True, kw_only=True):
    """A line of the timeline: a route that changed, a verdict that requires an action, or a run that failed.

    `subject` is the model of a route, the subject of a verdict, or the pipeline of a run. `verdict` is the id of the
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
        """The check of a verdict; the kind of any other entry."""
        return self.check or self.kind

    @property
    def text(self) -> str:
        """The entry as one line for display."""
        if self.kind == "route":
            return f"{describe_arms(self.arms, ' and ')}: {self.reason}"
        return f"{self.subject}: {self.reason}" + (f" → {self.action}" if self.action else "")


class VerdictSummary(Struct, frozen=True, kw_only=True):
    """A verdict in a training's story: its reason, and its numbers and intervals."""

    time: datetime
    check: str
    subject: str
    outcome: str
    action: str
    reason: str
    numbers: dict[str, Any] = {}


class TrainingStory(Struct, frozen=True, kw_only=True):
    """One training with its cause, its gate, its canary and its ending.

    `cause` is the verdict that requested the training, if there is one; `due` is the time of the request, and `settled`
    the time when the ending was decided.
    """

    number: int
    run: str
    pipeline: str
    trigger: str
    due: datetime
    started: datetime
    cause: VerdictSummary | None = None
    gate: VerdictSummary | None = None
    release: str = ""
    live: datetime | None = None
    canary: VerdictSummary | None = field(default=None, name="trial")
    ending: Ending
    settled: datetime | None = field(default=None, name="ended")
    message: str = field(default="", name="said")


class RegimeReturn(Struct, frozen=True, kw_only=True):
    """A regime that returned: its first row, and the recall of its release, by `labels` or `features`.

    `rows` were served between them. A training needs at least `rows_to_training` rows before its model exists; None if
    it could not exist within the period.
    """

    start: datetime
    recalled: datetime
    release: str
    replaced: str
    by: str
    rows: int
    rows_to_training: int | None = None


class PolicyResult(Struct, frozen=True, kw_only=True):
    """The result of one policy.

    `weeks` are (begin, labelled rows, their mean loss). `wrong_promotions` are those of models that were worse than the
    champion before them, beyond the margin of the canary, on the rows of the next 14 days.

    `seconds` and `training_seconds` depend on the machine; every other field does not.
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
    stories: list[TrainingStory] = []
    seed: int = 0
    wrong_promotions: int = 0
    returns: list[RegimeReturn] = []

    @property
    def failures(self) -> list[TimelineEntry]:
        """The runs that failed with an error; a run that a check stopped is not among them."""
        return [entry for entry in self.timeline if entry.kind == "failure"]

    @property
    def causes(self) -> dict[str, int]:
        """The number of trainings by cause: the check that requested them, or the trigger if no check did."""
        names = [story.cause.check if story.cause else story.trigger for story in self.stories]
        return {name: names.count(name) for name in sorted(set(names))}


class LossDifference(Struct, frozen=True, kw_only=True):
    """The mean loss per prediction of the first policy minus that of another, with its interval over `weeks`."""

    mean: float
    low: float
    high: float
    weeks: int


class SeedComparison(Struct, frozen=True, kw_only=True):
    """The first policy compared with another under one seed: losses, trainings, and the paired difference."""

    policy: str
    seed: int
    loss: float
    other_loss: float = field(name="other")
    trainings: int
    other_trainings: int
    difference: LossDifference


class BacktestResult(Struct, frozen=True, kw_only=True):
    """The results of all policies on the same predictions; `repeats` are the results under further seeds."""

    project: str
    model: str
    metric: str
    period: Period
    disturbances: list[Disturbance]
    outcomes: list[PolicyResult]
    cost_of_training: float
    seconds: float
    shuffled: bool = False
    repeats: list[PolicyResult] = []

    def find_result(self, name: str) -> PolicyResult:
        """Return the result of a policy under the first seed."""
        return next(result for result in self.outcomes if result.name == name)

    def list_seeds(self, name: str) -> list[PolicyResult]:
        """Return the results of a policy under every seed."""
        return [result for result in (*self.outcomes, *self.repeats) if result.name == name]

    def list_failures(self, name: str) -> list[TimelineEntry]:
        """Return the failed runs of a policy under every seed, by time."""
        failures = [entry for result in self.list_seeds(name) for entry in result.failures]
        return sorted(failures, key=lambda entry: entry.time)

    @property
    def seed_comparisons(self) -> list[SeedComparison]:
        """The first policy compared with each other policy, seed by seed."""
        first = {result.seed: result for result in self.list_seeds(self.outcomes[0].name)}
        return [
            SeedComparison(
                policy=other.name,
                seed=other.seed,
                loss=compute_mean_loss([first[other.seed]]),
                other_loss=compute_mean_loss([other]),
                trainings=first[other.seed].trainings,
                other_trainings=other.trainings,
                difference=compute_difference([first[other.seed]], [other]),
            )
            for name in (result.name for result in self.outcomes[1:])
            for other in self.list_seeds(name)
            if other.weeks and first[other.seed].weeks
        ]

    def difference(self, name: str) -> LossDifference:
        """Return the loss difference of the first policy and another, over all seeds."""
        return compute_difference(self.list_seeds(self.outcomes[0].name), self.list_seeds(name))


def compute_mean_loss(results: Sequence[PolicyResult]) -> float:
    """Return the mean loss over all predictions of the results."""
    rows, losses = _tables(results, sorted(_weeks(results[0])))
    return float((rows * losses).sum() / rows.sum())


def compute_difference(
    results: Sequence[PolicyResult], others: Sequence[PolicyResult], confidence: float = 0.95
) -> LossDifference:
    """Return the paired loss difference of two policies under the same seeds, over all their predictions.

    The interval comes from a block bootstrap (Künsch 1989) that draws whole weeks and seeds, because neither the weeks
    nor the seeds are independent of the losses within them.
    """
    weeks = sorted(set.intersection(*(_weeks(result) for result in (*results, *others))))
    rows, losses = _tables(results, weeks)
    differences = rows * (losses - _tables(others, weeks)[1])
    generator = np.random.default_rng(0)
    seeds = generator.integers(0, len(results), (_DRAWS, len(results), 1))
    drawn_weeks = generator.integers(0, len(weeks), (_DRAWS, 1, len(weeks)))
    means = differences[seeds, drawn_weeks].sum(axis=(1, 2)) / rows[seeds, drawn_weeks].sum(axis=(1, 2))
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    return LossDifference(
        mean=float(differences.sum() / rows.sum()), low=float(low), high=float(high), weeks=len(weeks)
    )


def _weeks(result: PolicyResult) -> set[datetime]:
    return {begin for begin, _, _ in result.weeks}


def _tables(results: Sequence[PolicyResult], weeks: Sequence[datetime]) -> tuple[Floats, Floats]:
    """Return the labelled rows and the mean losses, each of shape (results, weeks)."""
    by_week = [{begin: (rows, loss) for begin, rows, loss in result.weeks} for result in results]
    table = np.array([[values[week] for week in weeks] for values in by_week], dtype=float)
    return table[..., 0], table[..., 1]
