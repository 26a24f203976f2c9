"""The cost trigger of Modyn: train when rows have waited too long, in sum, to be learned."""

from datetime import timedelta

import numpy as np
import polars as pl

from tidemill.backtest.comparison import Period
from tidemill.backtest.policies import train_at
from tidemill.core.policy import Policy
from tidemill.data.arrays import Floats

_DAY = timedelta(days=1)
_HALVINGS = 60


def build_cost_policy(policy: Policy, period: Period, times: pl.Series, trainings: int) -> Policy:
    """Return a policy that trains when the incorporation latency of new rows exceeds the cost of a training.

    This is the trigger by data incorporation latency of Modyn (Böther et al. 2024): the latency of a row is the time
    since it arrived, until a training learns it. The sum over the rows since the last training is compared once a day
    with the cost of a training. How much of that cost a second of latency is worth is a setting of Modyn; here it is
    the one with which the policy trains as often as `trainings` says, including the first.

    `times` are the times of all rows. Each model is released without a gate or a canary.
    """
    days = max(1, round((period.end - period.begin) / _DAY))
    chosen = choose_days(_count_rows(times, period, days), trainings - 1)
    return train_at(policy, [period.begin + day * _DAY for day in chosen])


def choose_days(rows: Floats, trainings: int) -> list[int]:
    """Return the days at whose end to train, at most `trainings`, from the rows that arrive in each day.

    >>> choose_days(np.array([1.0, 1, 1, 1, 8, 8, 1, 1]), 3)
    [4, 5, 7]
    """
    low, high = 0.0, float((rows * (len(rows) - np.arange(len(rows)))).sum()) + 1.0
    if trainings < 1:
        return []
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if len(_list_days(rows, middle)) <= trainings else (middle, high)
    return _list_days(rows, high)


def _list_days(rows: Floats, most: float) -> list[int]:
    """Return the ends of days at which the latency since the last training, in row-days, has reached `most`."""
    days, waiting, latency = [], 0.0, 0.0
    for day, count in enumerate(rows[:-1], 1):
        latency += waiting + count / 2  # a row of this day has waited for half of it
        waiting += count
        if latency >= most:
            days.append(day)
            waiting = latency = 0.0
    return days


def _count_rows(times: pl.Series, period: Period, days: int) -> Floats:
    since = (times - period.begin).dt.total_seconds().to_numpy() / _DAY.total_seconds()
    counts, _ = np.histogram(since, bins=days, range=(0, days))
    return np.asarray(counts, float)
