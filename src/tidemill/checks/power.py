"""The power of a drift check: the smallest changes that it would notice with its rows and its level."""

import numpy as np

from tidemill.data.statistics import Profile

_POWER_DEVIATIONS = 0.84  # of 80 %
_LARGEST = 0.999


def estimate_power(now: Profile, reference: Profile, level: float) -> dict[str, float]:
    """Return the changes that a check of independent rows notices in four of five windows; empty without columns.

    `shift` is a shift of the mean of normal values in standard deviations, `share` a change of the share of a category
    of one half, each in one column of all.
    """
    from scipy.special import ndtri

    columns = [column for column in now.columns if column.present]
    references = {column.name: column for column in reference.columns}
    sizes = [
        (column.present * references[column.name].present) / (column.present + references[column.name].present)
        for column in columns
        if column.name in references and references[column.name].present
    ]
    if not sizes:
        return {}
    rows, each = float(np.median(sizes)), level / (2 * len(sizes))
    reach = _POWER_DEVIATIONS * 0.5 / np.sqrt(rows)
    distance = max(0.05, float(np.sqrt(np.log(2 / each) / 2 / rows))) + reach
    share = max(0.03, float(-ndtri(each / 2)) * 0.5 / np.sqrt(rows)) + reach
    shift = 2 * float(ndtri((1 + min(distance, _LARGEST)) / 2))
    return {"shift": shift, "share": min(float(share), 1.0), "rows": float(now.rows)}
