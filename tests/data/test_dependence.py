"""The standard error of a mean of rows that are near in time and alike."""

import numpy as np
import pytest

from tidemill.data.dependence import estimate_inflation


def test_independent_rows_need_hardly_a_wider_interval() -> None:
    random = np.random.default_rng(1)
    factors = [estimate_inflation(random.normal(size=1_000)) for _ in range(200)]
    assert 1.0 <= np.mean(factors) < 1.25


@pytest.mark.parametrize("memory", [0.8, 0.95])
def test_intervals_of_dependent_rows_cover_their_mean(memory: float) -> None:
    """An autoregressive series: with independent rows, an interval of 95 % would cover less than 60 %."""
    random, rows, covered, assumed = np.random.default_rng(2), 2_000, 0, 0
    for _ in range(200):
        steps = random.normal(size=rows + 200)
        values = np.zeros(rows + 200)
        for index in range(1, rows + 200):
            values[index] = memory * values[index - 1] + steps[index]
        values = values[200:]
        error = values.std(ddof=1) / np.sqrt(rows)
        covered += abs(values.mean()) < 1.96 * error * estimate_inflation(values)
        assumed += abs(values.mean()) < 1.96 * error
    assert covered >= 0.85 * 200
    assert assumed < 0.65 * 200


@pytest.mark.parametrize("values", [[], [1.0], [0.5] * 1_000, [float("nan")] * 100, list(range(49))])
def test_without_an_estimate_the_factor_is_one(values: list[float]) -> None:
    assert estimate_inflation(np.array(values, dtype=float)) == 1.0
