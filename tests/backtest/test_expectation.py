"""Prediction intervals of a promise: how often they contain what comes later."""

import numpy as np
import pytest

from tidemill.backtest.expectation import predict_count, predict_mean


@pytest.mark.parametrize(("rate", "days", "later"), [(0.02, 200, 100), (0.2, 60, 30), (1.0, 100, 400)])
def test_a_count_with_the_same_rate_is_in_its_interval(rate: float, days: int, later: int) -> None:
    generator = np.random.default_rng(0)
    inside = 0
    for _ in range(400):
        low, high = predict_count(int(generator.poisson(rate * days)), days, later)
        inside += low <= generator.poisson(rate * later) <= high
    assert inside >= 0.93 * 400


def test_a_count_with_four_times_the_rate_is_not() -> None:
    low, high = predict_count(10, 100, 100)
    assert low < 10 < high < 40


def test_nothing_is_expected_of_no_time() -> None:
    assert predict_count(5, 30, 0) == (0, 0)


@pytest.mark.parametrize(("weeks", "later"), [(30, 4), (20, 20), (30, 60)])
def test_the_mean_of_weeks_that_resemble_the_others_is_in_its_interval(weeks: int, later: int) -> None:
    generator = np.random.default_rng(1)
    inside = 0
    for _ in range(80):
        rows = generator.integers(50, 200, weeks + later)
        losses = generator.normal(0.5, 0.05, weeks + later)
        interval = predict_mean(list(zip(rows[:weeks].tolist(), losses[:weeks].tolist(), strict=True)), later)
        assert interval is not None
        mean = float((rows[weeks:] * losses[weeks:]).sum() / rows[weeks:].sum())
        inside += interval[0] <= mean <= interval[1]
    assert inside >= 0.88 * 80


def test_few_weeks_state_no_interval() -> None:
    assert predict_mean([(10, 0.5), (10, 0.6)], 3) is None
    assert predict_mean([(10, 0.5)] * 5, 0) is None
