"""Estimates the error of a mean of rows in time order that can depend on each other over any time.

The variance of a mean of `n` rows falls as `n ** (2 * memory - 2)`. The memory (Hurst exponent) is 0.5 for independent
rows, and larger where disturbances last long (Beran 1994, "Statistics for long-memory processes"). It is estimated from
the variances of the Haar wavelets of the rows: differences between the means of neighbouring parts of 1, 2, 4, … rows
(Abry & Veitch 1998, "Wavelet analysis of long-range-dependent traffic"). These differences do not contain the mean, and
those of different lengths are nearly independent.

A few days of rows do not determine the memory. So the error is averaged over its posterior distribution: before the
data, rows are independent with a probability of 0.7, and otherwise all memories are equally probable.

Rows that disturbances of some hours hit together are better described by the means of blocks of time. The variance of
the blocks gives the memory of the rows (Beran 1994, section 4.4: aggregated variances). Blocks depend less on each
other than rows of a block do: what their memory exceeds 0.5 is three quarters of that of the rows, chosen on real
streams.
"""

import math

import numpy as np
from msgspec import Struct

from tidemill.data.arrays import Floats, Ints

_MEMORIES = np.linspace(0.5, 0.95, 10)
_INDEPENDENT = 0.7  # the probability of independent rows before the data
_PRIOR = np.log([_INDEPENDENT, *[(1 - _INDEPENDENT) / (len(_MEMORIES) - 1)] * (len(_MEMORIES) - 1)])
_MOST_PAIRS = 16  # of one length that count: the many short differences must not outweigh the few long ones
_BETWEEN = 0.75  # of the memory of the rows, that of blocks
_LARGEST_MEMORY = 0.9
_CONSTANTS = np.log(2 * (1 - 2 ** (2 * _MEMORIES - 2)))


class MeanError(Struct, frozen=True):
    """The mean of rows and its standard error, with the memory of the rows.

    `freedom` is the number of differences that the error comes from. `inflation` is how many times larger the variance
    of the mean is than that of independent rows.
    """

    mean: float
    error: float
    memory: float
    freedom: int
    inflation: float


def estimate_error(values: Floats) -> MeanError:
    """Return the mean of values, shape (rows,), in time order, and its standard error.

    With fewer than two rows, the error is infinite.

    >>> random = np.random.default_rng(1)
    >>> estimate_error(random.normal(size=400)).memory < 0.55 < estimate_error(random.normal(size=400).cumsum()).memory
    True
    """
    rows = len(values)
    mean = float(values.mean()) if rows else math.nan
    if rows < 2:
        return MeanError(mean, math.inf, 0.5, 0, 1.0)
    lengths, pairs, variances = _find_variances(values)
    counts = np.minimum(pairs, _MOST_PAIRS)
    freedom = float(counts.sum())
    if not variances.any():
        return MeanError(mean, 0.0, 0.5, int(freedom), 1.0)
    # The logarithm of the expected variance of a difference, for each length and memory; the variance of one row is 1.
    expected = np.log(lengths)[:, None] * (2 * _MEMORIES - 1) + _CONSTANTS
    scales = (counts * variances) @ np.exp(-expected) / freedom
    likelihoods = _PRIOR - 0.5 * (counts @ expected + freedom * np.log(scales))
    weights = np.exp(likelihoods - likelihoods.max())
    weights /= weights.sum()
    memory = float(weights @ _MEMORIES)
    variance = float(weights @ (scales * rows ** (2 * _MEMORIES - 2)))
    return MeanError(mean, math.sqrt(variance), memory, int(freedom), float(rows ** (2 * memory - 1)))


def estimate_block_error(values: Floats, indices: Ints) -> tuple[float, int]:
    """Return the standard error of the mean of values from the means of their blocks, and the number of blocks.

    `values` and the `indices` of their blocks have the shape (rows,), in time order. With fewer than two blocks, the
    error is infinite.
    """
    starts = np.flatnonzero(np.diff(indices, prepend=-1)) if len(indices) else np.empty(0, dtype=np.int64)
    count = len(starts)
    if count < 2:
        return math.inf, count
    rows = np.diff(starts, append=len(values))
    typical = len(values) / count
    residuals = (np.add.reduceat(values, starts) - rows * values.mean()) / typical
    variance, within = float(np.square(residuals).sum()) / (count - 1), float(values.var())
    memory = 0.5
    if variance > 0 and within > 0 and typical >= 2:
        memory += _BETWEEN * math.log(variance * typical / within) / (2 * math.log(typical))
    reduction = count ** (2 * min(max(memory, 0.5), _LARGEST_MEMORY) - 2)
    # The mean of blocks that depend on each other hides a part of their variance: 1 - reduction remains.
    return math.sqrt(variance * (count - 1) / count / (1 - reduction) * reduction), count


def _find_variances(values: Floats) -> tuple[Floats, Floats, Floats]:
    """Return the lengths of the parts, the numbers of pairs of neighbours, and the variances of their differences.

    A variance is that of the difference of two means, divided by 2 and multiplied with the length: for independent rows
    it is the same for all lengths.
    """
    lengths, pairs, variances = [], [], []
    length, means = 1.0, values
    while len(means) >= 2:
        count = len(means) // 2
        first, second = means[: 2 * count : 2], means[1 : 2 * count : 2]
        difference = first - second
        lengths.append(length)
        pairs.append(float(count))
        variances.append(float(np.square(difference).mean()) / 2 * length)
        means, length = (first + second) / 2, length * 2
    return np.array(lengths), np.array(pairs), np.array(variances)
