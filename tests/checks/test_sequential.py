"""Confidence sequences: they hold at every look, for independent rows and for rows that depend on each other."""

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.signal import lfilter

from tidemill.checks.sequential import Blocks, find_bounds, find_critical_value, make_blocks, merge_small


@pytest.mark.parametrize("blocks", [5, 8, 20])
def test_the_critical_value_is_that_of_the_mixture_of_effect_sizes(blocks: int) -> None:
    """The e-value is the ratio of two densities of the t statistic: mixed over normal effect sizes, and without one."""
    t = find_critical_value(blocks, 0.05)
    mixed, _ = integrate.quad(
        lambda effect: stats.nct.pdf(t, blocks - 1, effect * np.sqrt(blocks)) * stats.norm.pdf(effect),
        -8,
        8,
        limit=200,
    )
    assert mixed / stats.t.pdf(t, blocks - 1) == pytest.approx(20, rel=1e-3)


@pytest.mark.parametrize("blocks", [0, 1, 2, 4])
def test_few_blocks_prove_nothing(blocks: int) -> None:
    bounds = find_bounds(Blocks(np.arange(blocks, dtype=np.float64), np.ones(blocks), 1.0), 0.05)
    assert (bounds.lower, bounds.upper, bounds.blocks) == (-np.inf, np.inf, blocks)


def exclude_truth(values: np.ndarray, rows: int) -> float:
    """Return the share of streams, shape (streams, days * rows), whose mean of 0 is excluded at any look."""
    excluded = 0
    for stream in values:
        for day in range(5, len(stream) // rows + 1, 2):
            part = stream[: day * rows]
            bounds = find_bounds(make_blocks(part, np.arange(len(part)) // rows), 0.05)
            if not bounds.lower <= 0 <= bounds.upper:
                excluded += 1
                break
    return excluded / len(values)


def test_the_bounds_hold_at_all_looks_for_independent_rows() -> None:
    """At most 5 %; with 200 streams, more than 9 % would come once in 200 runs."""
    values = np.random.default_rng(1).normal(size=(200, 28 * 20))
    assert exclude_truth(values, 20) <= 0.09


def test_the_bounds_hold_at_all_looks_for_skewed_rows() -> None:
    values = np.random.default_rng(2).exponential(size=(200, 28 * 40)) - 1
    assert exclude_truth(values, 40) <= 0.09


def test_the_bounds_hold_at_all_looks_for_rows_that_depend_on_each_other() -> None:
    """Means of a day vary three to four times as much as those of independent rows."""
    noise = np.random.default_rng(3).normal(size=(150, 28 * 48 + 500))
    values = lfilter([1], [1, -0.95], noise, axis=1)[:, 500:]
    assert exclude_truth(values, 48) <= 0.09


def test_rows_with_a_memory_have_wider_bounds_than_independent_rows() -> None:
    random = np.random.default_rng(4)
    independent = random.normal(size=28 * 48)
    memory = lfilter([1], [1, -0.98], random.normal(size=28 * 48))
    days = np.arange(28 * 48) // 48
    narrow, wide = (find_bounds(make_blocks(values / values.std(), days), 0.05) for values in (independent, memory))
    assert narrow.memory < 0.6 < wide.memory
    assert wide.upper - wide.lower > 3 * (narrow.upper - narrow.lower)


def test_blocks_count_by_their_rows() -> None:
    values, days = np.array([1.0, 1.0, 1.0, 5.0]), np.array([0, 0, 0, 3])
    blocks = make_blocks(values, days)
    assert (blocks.means.tolist(), blocks.rows.tolist()) == ([1.0, 5.0], [3.0, 1.0])
    assert find_bounds(blocks, 0.05).mean == 2.0


def test_equal_values_have_bounds_without_a_width() -> None:
    bounds = find_bounds(make_blocks(np.full(60, 0.25), np.arange(60) // 10), 0.05)
    assert (bounds.lower, bounds.upper) == (0.25, 0.25)


def test_small_blocks_are_merged_in_order() -> None:
    merged = merge_small(np.array([0, 1, 1, 2, 5, 6, 6, 6, 7]), 3)
    assert merged.tolist() == [0, 0, 0, 1, 1, 1, 1, 1, 1]
    assert merge_small(np.array([4, 4]), 5).tolist() == [0, 0]
    assert merge_small(np.array([], dtype=np.int64), 5).tolist() == []
