"""Decides whether an earlier release is proven to be better than the champion on the same labelled rows."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from tidemill.data.arrays import Floats
from tidemill.data.dependence import estimate_inflation

LEAST_ROWS = 100
_FREEDOM = 19  # of a standard error from 20 batches


class Compared(NamedTuple):
    """An earlier release on the rows of a window: its mean loss, and by how much the champion's is higher, at least."""

    release: str
    loss: float
    improvement: float
    least: float


def compare_earlier(champion: Floats, earlier: Mapping[str, Floats], confidence: float) -> list[Compared]:
    """Return each earlier release on the champion's rows, the lowest loss first.

    `champion` and each of `earlier` are the losses of the same rows in time order, shape (rows,). `least` is the lower
    bound of a one-sided interval for the mean difference, with the standard error of dependent rows (batch means) and
    Student's t distribution. All releases share its level (Bonferroni), so that with `confidence` none of them is
    better by chance only.
    """
    from scipy.special import stdtrit

    quantile = float(stdtrit(_FREEDOM, 1 - (1 - confidence) / max(len(earlier), 1)))
    found = []
    for release, losses in earlier.items():
        differences = champion - losses
        error = float(differences.std(ddof=1)) / math.sqrt(len(differences)) * estimate_inflation(differences)
        mean = float(differences.mean())
        found.append(Compared(release, float(losses.mean()), mean, mean - quantile * error))
    return sorted(found, key=lambda compared: compared.loss)


def find_proven(compared: list[Compared], margin: float) -> list[Compared]:
    """Return the releases that are proven to be better, by more than a margin as measured, the lowest loss first."""
    return [release for release in compared if release.least > 0 and release.improvement > margin]
