"""The cost of a policy: the baseline, and what trainings, false alarms and degraded hours add."""

import math
from datetime import UTC, datetime

import polars as pl
import pytest
from msgspec.structs import replace

from tests.backtest.test_search import make_result
from tidemill.backtest.comparison import Ending, TrainingStory, VerdictSummary
from tidemill.backtest.costs import compute_baseline, compute_cost, find_rates, is_false_alarm
from tidemill.core.policy import Problem

_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_CLASSES = Problem(decision="", source="rows", label="late", cost_of_training=2.0)


def make_story(ending: Ending, *, by_check: bool) -> TrainingStory:
    cause = VerdictSummary(time=_NOW, check="drift", subject="", outcome="fail", action="retrain", reason="")
    return TrainingStory(
        number=1,
        run="",
        pipeline="training",
        trigger="watch",
        due=_NOW,
        started=_NOW,
        cause=cause if by_check else None,
        ending=ending,
    )


def test_the_baseline_is_the_entropy_of_the_classes() -> None:
    assert compute_baseline(_CLASSES, pl.Series(["a", "b"] * 50)) == pytest.approx(math.log(2))
    assert compute_baseline(_CLASSES, pl.Series(["a"] * 50)) == 1.0, "one class: nothing to divide by"


def test_the_baseline_of_numbers_is_their_variance() -> None:
    numbers = replace(_CLASSES, task="regression")
    assert compute_baseline(numbers, pl.Series([0.0, 10.0, None])) == 25.0
    assert compute_baseline(numbers, pl.Series([3.0, 3.0])) == 1.0


def test_a_prediction_as_wrong_as_the_baseline_costs_one_by_default() -> None:
    rates = find_rates(_CLASSES, pl.Series(["a", "b"] * 50))
    cost = compute_cost(make_result(rates.baseline / 2, 3), rates)
    assert cost.loss == pytest.approx(1400)
    assert cost.total == pytest.approx(1406)
    assert cost.degraded_hours == 0
    stated = find_rates(replace(_CLASSES, cost_of_error=3.0), pl.Series(["a", "b"]))
    assert compute_cost(make_result(rates.baseline / 2, 3), stated).loss == pytest.approx(4200)


def test_weeks_that_are_worse_than_the_baseline_are_degraded() -> None:
    rates = find_rates(replace(_CLASSES, cost_of_degraded_hour=0.5), pl.Series(["a", "b"]))
    cost = compute_cost(make_result(0.8, 1), rates)
    assert cost.degraded_hours == 28 * 7 * 24
    assert cost.degraded == 28 * 7 * 24 * 0.5


def test_a_training_that_a_check_requested_in_vain_is_a_false_alarm() -> None:
    assert is_false_alarm(make_story("refused", by_check=True))
    assert is_false_alarm(make_story("rolled back", by_check=True))
    assert not is_false_alarm(make_story("promoted", by_check=True))
    assert not is_false_alarm(make_story("refused", by_check=False)), "a calendar asked for it"
    rates = find_rates(replace(_CLASSES, cost_of_false_alarm=7.0), pl.Series(["a", "b"]))
    result = replace(make_result(0.5, 2), stories=[make_story("refused", by_check=True)])
    assert compute_cost(result, rates).false_alarms == 7.0
