"""The cost of a policy in a backtest: its loss, its trainings, its false alarms, and the hours of degraded service."""

import numpy as np
import polars as pl
from msgspec import Struct

from tidemill.backtest.comparison import PolicyResult, TrainingStory
from tidemill.core.policy import Problem

_WEEK_HOURS = 7 * 24
_FRUITLESS = ("refused", "rolled back", "unchanged", "failed")


class CostRates(Struct, frozen=True, kw_only=True):
    """What each part costs, and `baseline`: the mean loss of a prediction without a model.

    `error` is the cost of a prediction that is as wrong as the baseline: half of its loss costs half of it.
    """

    error: float
    training: float
    false_alarm: float
    degraded_hour: float
    baseline: float


class Cost(Struct, frozen=True, kw_only=True):
    """The cost of a policy: in total, and by cause; and the counts behind it."""

    loss: float
    trainings: float
    false_alarms: float
    degraded: float
    count_of_false_alarms: int
    degraded_hours: float

    @property
    def total(self) -> float:
        """The sum of all parts."""
        return self.loss + self.trainings + self.false_alarms + self.degraded


def find_rates(problem: Problem, labels: pl.Series) -> CostRates:
    """Return the rates of a problem; without `cost_of_error`, a prediction as wrong as the baseline costs 1.

    `labels` are those of the rows in which policies are compared.
    """
    return CostRates(
        error=problem.cost_of_error or 1.0,
        training=problem.cost_of_training,
        false_alarm=problem.cost_of_false_alarm,
        degraded_hour=problem.cost_of_degraded_hour,
        baseline=compute_baseline(problem, labels),
    )


def compute_baseline(problem: Problem, labels: pl.Series) -> float:
    """Return the mean loss of the best constant prediction: the entropy of the classes, or the variance."""
    known = labels.drop_nulls()
    if problem.task == "regression":
        return float(np.var(known.cast(pl.Float64).to_numpy())) or 1.0
    shares = known.value_counts()["count"].to_numpy() / max(known.len(), 1)
    return float(-(shares * np.log(shares)).sum()) or 1.0


def is_false_alarm(story: TrainingStory) -> bool:
    """Return whether a check requested a training that led to no better model.

    Such a training was refused, rolled back, failed, or built a package that had been released before.
    """
    return story.cause is not None and story.ending in _FRUITLESS


def compute_cost(result: PolicyResult, rates: CostRates) -> Cost:
    """Return the cost of a policy in the period of its result.

    An hour is degraded if the predictions of its week were worse than those of the baseline.
    """
    rows = np.array([count for _, count, _ in result.weeks], dtype=float)
    losses = np.array([loss for _, _, loss in result.weeks], dtype=float)
    hours = float((losses > rates.baseline).sum()) * _WEEK_HOURS
    alarms = sum(map(is_false_alarm, result.stories))
    return Cost(
        loss=rates.error * float((rows * losses).sum()) / rates.baseline,
        trainings=rates.training * result.trainings,
        false_alarms=rates.false_alarm * alarms,
        degraded=rates.degraded_hour * hours,
        count_of_false_alarms=alarms,
        degraded_hours=hours,
    )
