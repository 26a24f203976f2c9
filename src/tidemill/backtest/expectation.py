"""What to expect of a later period, from the weeks and the counts of an earlier one: prediction intervals."""

import math
from collections.abc import Sequence

import numpy as np

from tidemill.data.arrays import Floats

_DRAWS = 4000


def predict_mean(
    weeks: Sequence[tuple[int, float]], later: int, confidence: float = 0.95
) -> tuple[float, float] | None:
    """Return the interval of the mean loss of `later` weeks that resemble the given ones; None with fewer than three.

    `weeks` are labelled rows and their mean loss. Blocks of neighbouring weeks are drawn (Künsch 1989; circular:
    Politis & Romano 1992), once for the later weeks and once for the uncertainty of the given ones.
    """
    from scipy.stats import norm, t  # imported late: it loads slowly

    count = len(weeks)
    if count < 3 or later < 1:
        return None
    rows = np.array([number for number, _ in weeks], dtype=float)
    losses = np.array([loss for _, loss in weeks], dtype=float)
    mean = float((rows * losses).sum() / rows.sum())
    generator = np.random.default_rng(0)
    length = max(1, round(count ** (1 / 3)))

    def draw(number: int) -> Floats:
        blocks = -(-number // length)
        starts = generator.integers(0, count, (_DRAWS, blocks, 1))
        chosen = ((starts + np.arange(length)) % count).reshape(_DRAWS, -1)[:, :number]
        means: Floats = (rows[chosen] * losses[chosen]).sum(axis=1) / rows[chosen].sum(axis=1)
        return means

    deviations = (draw(later) - mean) + (draw(count) - mean)
    tail = (1 - confidence) / 2
    # A bootstrap of few weeks is too narrow: it divides by their number, and takes the normal distribution for t's.
    scale = math.sqrt(count / (count - length)) * t.ppf(1 - tail, count - 1) / norm.ppf(1 - tail)
    low, high = mean + scale * np.quantile(deviations, (tail, 1 - tail))
    return float(low), float(high)


def predict_count(count: int, days: float, later: float, confidence: float = 0.95) -> tuple[int, int]:
    """Return the interval of a count in `later` days, after `count` in `days`, if both have the same rate.

    The prediction of a Poisson process with Jeffreys' prior is a negative binomial (Krishnamoorthy & Peng 2011).
    """
    from scipy.stats import nbinom

    if later <= 0 or days <= 0:
        return 0, 0
    tail = (1 - confidence) / 2
    low, high = nbinom.ppf((tail, 1 - tail), count + 0.5, days / (days + later))
    return max(0, int(low)), int(high)
