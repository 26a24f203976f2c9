"""Confidence sequences: they hold at every look, for independent rows and for rows that depend on each other."""

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.signal import lfilter

from tidemill.checks.sequential import find_bounds, find_critical_value, widen_by_blocks


@pytest.mark.parametrize("count", [10, 20, 60])
@pytest.mark.parametrize("effect", [0.5, 1.0])
def test_the_critical_value_is_that_of_the_mixture_of_effect_sizes(count: int, effect: float) -> None:
    """The e-value is the ratio of two densities of the t statistic: mixed over normal effect sizes, and without one."""
    t = find_critical_value(1 / (1 + count * effect**2), count, 0.05)
    mixed, _ = integrate.quad(
        lambda size: stats.nct.pdf(t, count - 1, size * np.sqrt(count)) * stats.norm.pdf(size, scale=effect),
        -8 * effect,
        8 * effect,
        limit=200,
    )
    assert mixed / stats.t.pdf(t, count - 1) == pytest.approx(20, rel=1e-3)


@pytest.mark.parametrize("rows", [0, 1, 2, 3])
def test_few_rows_prove_nothing(rows: int) -> None:
    bounds = find_bounds(np.arange(rows, dtype=np.float64), 0.05)
    assert (bounds.lower, bounds.upper, bounds.rows) == (-np.inf, np.inf, rows)


def exclude_truth(values: np.ndarray, rows: int, first: int = 3) -> tuple[float, float]:
    """Return the shares of streams whose mean of 0 is below the lower or above the upper bound at any look."""
    below = above = 0
    for stream in values:
        looks = [find_bounds(stream[:end], 0.05, 0.5) for end in range(first * rows, len(stream) + 1, 2 * rows)]
        below += any(bounds.lower > 0 for bounds in looks)
        above += any(bounds.upper < 0 for bounds in looks)
    return below / len(values), above / len(values)


def test_each_bound_holds_at_all_looks_for_independent_rows() -> None:
    """At most 5 % each; with 150 streams, more than 9 % would come once in 50 runs."""
    values = np.random.default_rng(1).normal(size=(150, 28 * 20))
    assert max(exclude_truth(values, 20)) <= 0.09


def test_each_bound_holds_at_all_looks_for_skewed_rows() -> None:
    values = np.random.default_rng(2).exponential(size=(150, 28 * 40)) - 1
    assert max(exclude_truth(values, 40)) <= 0.09


def test_each_bound_holds_at_all_looks_for_rows_that_depend_on_each_other() -> None:
    """Means of a day vary three to four times as much as those of independent rows; a week is the first look."""
    noise = np.random.default_rng(3).normal(size=(150, 28 * 48 + 500))
    values = lfilter([1], [1, -0.95], noise, axis=1)[:, 500:]
    assert max(exclude_truth(values / values.std(), 48, 7)) <= 0.09


def test_rows_with_a_memory_have_wider_bounds_than_independent_rows() -> None:
    random = np.random.default_rng(4)
    independent = random.normal(size=28 * 48)
    memory = lfilter([1], [1, -0.98], random.normal(size=28 * 48))
    narrow, wide = (find_bounds(values / values.std(), 0.05) for values in (independent, memory))
    assert narrow.memory < 0.55 < wide.memory
    assert narrow.inflation < 1.5 < wide.inflation
    assert wide.upper - wide.lower > 3 * (narrow.upper - narrow.lower)


def test_bounds_are_narrowest_near_the_effect_that_is_to_be_found() -> None:
    values = np.random.default_rng(5).normal(size=1000)
    widths = [_width(values, effect) for effect in (0.001, 0.1, 100)]
    assert widths[1] < min(widths[0], widths[2])


def _width(values: np.ndarray, effect: float) -> float:
    bounds = find_bounds(values, 0.05, effect)
    return bounds.upper - bounds.lower


def test_equal_values_have_bounds_without_a_width() -> None:
    bounds = find_bounds(np.full(60, 0.25), 0.05)
    assert (bounds.lower, bounds.upper) == (0.25, 0.25)


def test_blocks_that_differ_widen_the_bounds() -> None:
    """Each day has a disturbance of its own: within the days rows are independent."""
    random = np.random.default_rng(6)
    days = np.arange(2000) // 200
    values = random.normal(0, 0.3, 2000) + random.normal(0, 1, 10)[days]
    bounds = find_bounds(values[:1000], 0.05, 0.5)
    wider = widen_by_blocks(bounds, values[:1000], days[:1000], 0.05, 0.5)
    assert wider.upper - wider.lower > bounds.upper - bounds.lower
    assert wider.mean == bounds.mean


def test_one_block_widens_without_end() -> None:
    values = np.random.default_rng(7).normal(size=100)
    wider = widen_by_blocks(find_bounds(values, 0.05), values, np.zeros(100, dtype=np.int64), 0.05)
    assert (wider.lower, wider.upper) == (-np.inf, np.inf)
