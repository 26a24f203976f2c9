"""Estimates how far the mean of rows in time order can be trusted: rows that are near in time are alike."""

import numpy as np

from tidemill.data.arrays import Floats

_BATCHES = (10, 20, 40)
_LEAST_ROWS = 5  # in a batch


def estimate_inflation(values: Floats) -> float:
    """Return how many times larger the standard error of a mean is than that of independent rows; at least 1.

    `values` has the shape (rows,), in time order. The standard error comes from the means of 10, 20 and 40 batches of
    consecutive rows (batch means; Flyvbjerg and Petersen 1989, "Error estimates on averages of correlated data"); the
    largest one counts. With fewer than 50 rows it cannot be estimated, and is 1.

    >>> import numpy as np
    >>> round(estimate_inflation(np.repeat([0.0, 1.0] * 10, 50)), 1) > 5
    True
    """
    rows = len(values)
    if rows < _BATCHES[0] * _LEAST_ROWS or not np.isfinite(values).all():
        return 1.0
    independent = float(values.std(ddof=1)) / np.sqrt(rows)
    if independent == 0:
        return 1.0
    errors = []
    for batches in _BATCHES:
        if rows < batches * _LEAST_ROWS:
            break
        cuts = np.linspace(0, rows, batches + 1).astype(int)
        means = np.add.reduceat(values, cuts[:-1]) / np.diff(cuts)
        errors.append(float(means.std(ddof=1)) / np.sqrt(batches))
    return max(1.0, float(max(errors)) / float(independent))
