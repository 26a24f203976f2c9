"""Confidence sequences: intervals for a mean that hold at every look, also for rows that depend on each other.

The interval is that of the t test with a mixture of effect sizes (Robbins 1970; Lai 1976; Wang & Ramdas 2025,
"Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance"). For many rows it is an
asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, "Time-uniform central limit theory
and asymptotic confidence sequences"), which needs no normal rows. The mixture is normal with a mean of 0; its deviation
is the effect that should be found soonest.

The standard error contains the memory of the rows (see `tidemill.data.memory`), or that of blocks of time, whose means
are then the observations. With a known memory of normal rows, the ratio of the likelihoods would still be a martingale;
with an estimated one, the level is approximate: `benchmarks/canary.py` measures it on independent rows and on real
streams.
"""

import math

from msgspec import Struct
from msgspec.structs import replace

from tidemill.data.arrays import Floats, Ints
from tidemill.data.memory import estimate_block_error, estimate_error

_LEAST_BLOCKS = 3  # of a bound for one look
_TYPICAL_EFFECT = 0.2  # in standard deviations of a row, where no effect is known


class Sequence(Struct, frozen=True):
    """The mean of rows with bounds that hold at every look, and the memory of the rows.

    `inflation` is how many times larger the variance of the mean is than that of independent rows.
    """

    mean: float
    lower: float
    upper: float
    rows: int
    memory: float
    inflation: float


def find_bounds(values: Floats, alpha: float, effect: float = 0.0) -> Sequence:
    """Return the mean of values, shape (rows,), in time order, and bounds that hold at any number of looks.

    Each of the two bounds excludes the true mean at any look with a probability of `alpha`. The bounds are narrowest
    when the standard error is about half of `effect`; by default, it is a fifth of the deviation of a row. With few
    values, the bounds are infinite.
    """
    found = estimate_error(values)
    if not math.isfinite(found.error):
        return Sequence(found.mean, -math.inf, math.inf, len(values), found.memory, found.inflation)
    reach = _find_reach(found.error, found.freedom, alpha, effect, values)
    return Sequence(found.mean, found.mean - reach, found.mean + reach, len(values), found.memory, found.inflation)


def widen_by_blocks(bounds: Sequence, values: Floats, indices: Ints, alpha: float, effect: float = 0.0) -> Sequence:
    """Return bounds that are at least as wide as those from the means of blocks of time.

    `indices` are the blocks of the values, in order. With few blocks, the bounds are infinite.
    """
    error, blocks = estimate_block_error(values, indices)
    if not math.isfinite(error):
        return replace(bounds, lower=-math.inf, upper=math.inf)
    reach = _find_reach(error, blocks, alpha, effect, values)
    return replace(bounds, lower=min(bounds.lower, bounds.mean - reach), upper=max(bounds.upper, bounds.mean + reach))


def find_one_look(values: Floats, indices: Ints, confidence: float) -> tuple[float, float]:
    """Return the mean of values and its upper bound for one look, which is narrower than those for all looks.

    The standard error is the larger one of that with the memory of the rows and that of blocks of time, with Student's
    t distribution of the blocks. With fewer than three blocks, the bound is infinite.
    """
    from scipy.special import stdtrit

    error, blocks = estimate_block_error(values, indices)
    mean = float(values.mean()) if len(values) else math.nan
    if blocks < _LEAST_BLOCKS:
        return mean, math.inf
    return mean, mean + float(stdtrit(blocks - 1, confidence)) * max(error, estimate_error(values).error)


def _find_reach(error: float, count: int, alpha: float, effect: float, values: Floats) -> float:
    if error == 0:
        return 0.0
    prior = effect or _TYPICAL_EFFECT * float(values.std())
    share = 1 / (1 + (prior / error) ** 2)
    return find_critical_value(share, count, 2 * alpha) * error


def find_critical_value(share: float, count: int, alpha: float) -> float:
    """Return the t statistic of `count` values at which the e-value of the mixture is `1 / alpha`.

    `share` is the variance of the mean, divided by the sum of this variance and that of the mixture of effects.
    """
    if count < 2:
        return math.inf
    ratio = (1 / (math.sqrt(share) * alpha)) ** (2 / count)
    rest = 1 - ratio * share
    return math.sqrt((count - 1) * (ratio - 1) / rest) if rest > 0 else math.inf
