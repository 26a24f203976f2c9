"""Confidence sequences: intervals for a mean that hold at every look, also for rows that depend on each other.

The rows are summarized in blocks of time, and the means of the blocks are the observations. The interval is that of the
t test of a mixture of effect sizes (Lai 1976; Wang & Ramdas 2025, "Anytime-valid t-tests and confidence sequences for
Gaussian means with unknown variance"): it holds at all numbers of blocks at once, also at few, when the means of the
blocks are normal. Asymptotic confidence sequences (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024) have the same
form for many blocks.

The blocks depend on each other in real streams, over longer times than any block. The variance of a mean of `n` rows
then falls as `n ** (2 * memory - 2)`, with a memory (Hurst exponent) above 0.5 (Beran 1994, "Statistics for long-memory
processes", section 4.4: aggregated variances). The memory is estimated from the variance of the blocks against the
variance of the rows: three quarters of what exceeds 0.5. The standard error of the mean of all blocks is extrapolated
with it. This share held the errors on real streams; independent rows have a memory of 0.5.
"""

import math

import numpy as np
from msgspec import Struct

from tidemill.data.arrays import Floats, Ints

MINIMUM_BLOCKS = 5
_EFFECTS = 1.0  # the precision of the mixture of effect sizes, in blocks: 1 / variance of the effect sizes
_LARGEST_MEMORY = 0.9
_BETWEEN = 0.75  # days depend less on each other than rows of a day do: measured on real streams


class Blocks(Struct, frozen=True):
    """Values in blocks of time, in order: their means and numbers of rows, shape (blocks,).

    `variance` is the variance of one row. Where a value of a block is a difference of means of other rows, `rows` is
    the number of rows that would have the same error.
    """

    means: Floats
    rows: Floats
    variance: float


class Sequence(Struct, frozen=True):
    """The mean of all rows with bounds that hold at every look, the number of blocks, and the memory of the rows."""

    mean: float
    lower: float
    upper: float
    blocks: int
    memory: float


def make_blocks(values: Floats, indices: Ints) -> Blocks:
    """Return the blocks of values, shape (rows,), by the index of the block of each; without empty blocks."""
    if not len(values):
        return Blocks(np.empty(0), np.empty(0), 0.0)
    _, position, counts = np.unique(indices, return_inverse=True, return_counts=True)
    sums = np.bincount(position, values)
    return Blocks(sums / counts, counts.astype(float), float(values.var()))


def merge_small(indices: Ints, minimum: int) -> Ints:
    """Return indices with blocks merged, in the order of time, until each has at least `minimum` rows.

    Rows at the end that do not fill a block belong to the one before.

    >>> merge_small(np.array([0, 1, 1, 2, 3]), 2)
    array([0, 0, 0, 1, 1])
    """
    names, position, counts = np.unique(indices, return_inverse=True, return_counts=True)
    merged, block, rows = np.zeros(len(names), dtype=np.int64), 0, 0
    for index, count in enumerate(counts):
        merged[index] = block
        rows += int(count)
        if rows >= minimum:
            block, rows = block + 1, 0
    if rows and block:
        merged[merged == block] = block - 1
    return np.asarray(merged[position])


def find_bounds(blocks: Blocks, alpha: float) -> Sequence:
    """Return the mean of all rows and bounds that exclude it, at any number of looks, with a probability of `alpha`.

    With fewer than two blocks, the bounds are infinite.
    """
    count, total = len(blocks.means), float(blocks.rows.sum())
    mean = float((blocks.means * blocks.rows).sum() / total) if total else math.nan
    if count < 2:
        return Sequence(mean, -math.inf, math.inf, count, 0.5)
    typical = total / count
    residuals = blocks.rows / typical * (blocks.means - mean)
    variance = float((residuals**2).sum() / (count - 1))
    memory = _estimate_memory(variance, blocks.variance, typical)
    reduction = count ** (2 * memory - 2)
    # The mean of blocks that depend on each other hides a part of their variance: 1 - reduction remains.
    error = math.sqrt(variance * (count - 1) / count / (1 - reduction) * reduction)
    reach = find_critical_value(count, alpha) * error if error else 0.0
    return Sequence(mean, mean - reach, mean + reach, count, memory)


def find_critical_value(blocks: int, alpha: float) -> float:
    """Return the t statistic of a number of blocks at which the e-value of the mixture is `1 / alpha`."""
    ratio = (math.sqrt((blocks + _EFFECTS) / _EFFECTS) / alpha) ** (2 / blocks)
    rest = 1 - ratio * _EFFECTS / (blocks + _EFFECTS)
    return math.sqrt((blocks - 1) * (ratio - 1) / rest) if rest > 0 else math.inf


def _estimate_memory(between: float, within: float, rows: float) -> float:
    """Return the memory that explains the variance of blocks of `rows` rows, by the variance of one row."""
    if between <= 0 or within <= 0 or rows < 2:
        return 0.5
    memory = 0.5 + _BETWEEN * math.log(between * rows / within) / (2 * math.log(rows))
    return min(max(memory, 0.5), _LARGEST_MEMORY)
