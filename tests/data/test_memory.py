"""The error of a mean of rows that depend on each other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.signal import lfilter

from tidemill.data.memory import estimate_block_error, estimate_error


def draw_noise(memory: float, streams: int, rows: int, seed: int) -> np.ndarray:
    """Return fractional Gaussian noise, shape (streams, rows), by its exact covariance."""
    lags = np.arange(rows)
    covariance = 0.5 * (np.abs(lags + 1) ** (2 * memory) - 2 * lags ** (2 * memory) + np.abs(lags - 1) ** (2 * memory))
    factor = np.linalg.cholesky(covariance[np.abs(lags[:, None] - lags)])
    return np.random.default_rng(seed).normal(size=(streams, rows)) @ factor.T


@pytest.mark.parametrize("memory", [0.5, 0.7, 0.9])
def test_the_error_is_that_of_the_mean(memory: float) -> None:
    values = draw_noise(memory, 300, 400, 1)
    truth = float(values.mean(axis=1).std())
    errors = np.array([estimate_error(row).error for row in values])
    assert 0.8 * truth <= np.median(errors) <= 1.6 * truth


def test_independent_rows_have_a_memory_of_one_half() -> None:
    found = estimate_error(np.random.default_rng(2).normal(size=2000))
    assert found.memory < 0.53
    assert found.inflation < 1.5


@pytest.mark.parametrize("scale", [0.9, 0.99])
def test_disturbances_that_last_give_a_larger_error(scale: float) -> None:
    values = lfilter([1], [1, -scale], np.random.default_rng(3).normal(size=2000))
    found = estimate_error(values)
    assert found.memory > 0.65
    assert found.error > 3 * values.std() / np.sqrt(2000)


@given(arrays(float, st.integers(2, 200), elements=st.floats(-100, 100)), st.floats(0.01, 100), st.floats(-100, 100))
def test_the_error_follows_the_unit_and_ignores_the_mean(values: np.ndarray, factor: float, shift: float) -> None:
    found, changed = estimate_error(values), estimate_error(values * factor + shift)
    spread = float(np.ptp(values)) * factor
    assert changed.mean == pytest.approx(found.mean * factor + shift, abs=1e-9 * (spread + abs(shift) + 1e4))
    if spread > 1e-3:
        assert changed.error == pytest.approx(found.error * factor, rel=1e-6, abs=1e-9)
    assert 0.5 <= found.memory <= 0.95


@pytest.mark.parametrize("rows", [0, 1])
def test_without_two_rows_nothing_is_known(rows: int) -> None:
    assert estimate_error(np.ones(rows)).error == np.inf


def test_equal_values_have_no_error() -> None:
    assert estimate_error(np.full(50, 0.25)).error == 0.0


def test_the_error_of_independent_rows_in_blocks_is_that_of_the_rows() -> None:
    values = np.random.default_rng(4).normal(size=4000)
    error, blocks = estimate_block_error(values, np.arange(4000) // 40)
    assert blocks == 100
    assert error == pytest.approx(1 / np.sqrt(4000), rel=0.3)


def test_blocks_count_by_their_rows() -> None:
    """A block with one row that is far from the others changes the error less than one with many."""
    values, few, many = np.r_[np.zeros(50), np.ones(50)], np.r_[np.zeros(99), 1], np.r_[np.zeros(50), np.ones(50)]
    one = estimate_block_error(np.r_[np.zeros(99), 1.0], few)[0]
    half = estimate_block_error(values, many)[0]
    assert 0 < one < half


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_one_block_has_an_infinite_error(rows: int) -> None:
    assert estimate_block_error(np.ones(rows), np.zeros(rows, dtype=np.int64))[0] == np.inf
