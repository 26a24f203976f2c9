"""Tests whether the values of a column differ between two profiles, and measures by how much."""

import math
from collections.abc import Sequence
from functools import cache, lru_cache
from typing import Any

import numpy as np

from tidemill.data.arrays import Floats
from tidemill.data.statistics import ColumnProfile

_KS = 0.05
_CATEGORY = 0.03
_MANY_EXPECTED = 25  # the normal distribution is close
_MISSING = 0.03
_LEAST_EXPECTED = 5
_SELECTION_DEVIATIONS = 3.0
_CACHED = 4096
_CORRECTION_DEVIATIONS = 2.0


def compare(now: ColumnProfile, reference: ColumnProfile) -> dict[str, Any]:
    """Return the test of a column with the largest effect: the effect, the least large effect and the p-value."""
    return max(column_tests(now, reference), key=weigh)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for several tests: a level bounds the probability of any false rejection (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    ordered = np.sort(p_values)
    steps = np.maximum.accumulate(ordered * np.arange(len(ordered), 0, -1)).clip(0, 1)
    adjusted: list[float] = steps[np.searchsorted(ordered, p_values)].tolist() if len(ordered) else []
    return adjusted


def weigh(test: dict[str, Any]) -> tuple[bool, bool, float]:
    """Return the order of tests: those that moved first, then large effects, by effect."""
    return bool(test.get("moved")), test["effect"] > test["least"], test["effect"] / test["least"]


def column_tests(now: ColumnProfile, reference: ColumnProfile, *, with_missing: bool = True) -> list[dict[str, Any]]:
    """Return the tests of a column: of its missing share, and of its values unless they are times or constant."""
    tests = [_missing(now, reference)] if with_missing else []
    if reference.type == "text":
        tests.append(_categories(now, reference))
    elif (reference.edges or any(reference.infinite)) and reference.type not in ("time", "date"):
        tests.append(_distribution(now, reference))
    return [{"column": now.name, **test} for test in tests]


def _distribution(now: ColumnProfile, reference: ColumnProfile) -> dict[str, Any]:
    """Run a two-sample Kolmogorov–Smirnov test at the reference's bin edges.

    The distance is at most 1/40 below that of the rows themselves. Infinite values count as the smallest and largest.
    """
    n, m = now.present + sum(now.infinite), reference.present + sum(reference.infinite)
    if not n or not m:
        return {"kind": "distribution", "effect": 0.0, "least": _KS, "p_value": 1.0}
    # Profiles of earlier versions have no ties.
    has_ties = len(reference.ties) == len(reference.edges)
    shares = _cumulate(now.counts, now.ties if has_ties else None, now.infinite[0], n)
    expected = _cumulate(reference.counts, reference.ties if has_ties else None, reference.infinite[0], m)
    distance = float(np.maximum.reduce(np.abs(shares - expected)))
    p_value = float(_kolmogorov()(distance * math.sqrt(n * m / (n + m))))
    return {"kind": "distribution", "effect": distance, "least": _KS, "p_value": p_value}


@cache
def _kolmogorov() -> Any:
    from scipy.special import kolmogorov

    return kolmogorov


@lru_cache(_CACHED)
def _cumulate(counts: tuple[int, ...], ties: tuple[int, ...] | None, lowest: int, rows: int) -> Floats:
    """Return the share of the rows at or below each edge, then that below each edge."""
    up_to = lowest + np.cumsum(np.asarray(counts, float))
    below = up_to[:0] if ties is None else up_to[:-1] - np.asarray(ties, float)
    return np.concatenate(([lowest], up_to, below)) / rows


def _categories(now: ColumnProfile, reference: ColumnProfile) -> dict[str, Any]:
    names = list(reference.values)
    counts = np.asarray([*(now.values.get(name, 0) for name in names), now.other], float)
    expected_counts = np.asarray([*(reference.values[name] for name in names), reference.other], float)
    if reference.other and names and counts.sum():
        counts, expected_counts = _correct_selection(counts, expected_counts)
    if not counts.sum() or not expected_counts.sum():
        return {"kind": "categories", "effect": 0.0, "least": _CATEGORY, "p_value": 1.0}
    effect = float(np.abs(counts / counts.sum() - expected_counts / expected_counts.sum()).max())
    table = np.stack((counts, expected_counts))
    expected = table.sum(axis=0) * table.sum(axis=1).min() / table.sum()
    # With small expected counts the statistic is not chi-squared: rare categories are combined (Cochran 1954).
    rare = expected < _LEAST_EXPECTED
    table = np.column_stack((table[:, ~rare], table[:, rare].sum(axis=1)))
    table = table[:, table.sum(axis=0) > 0]
    p_value = _test_independence(table) if table.shape[1] > 1 else 1.0
    return {"kind": "categories", "effect": effect, "least": _CATEGORY, "p_value": p_value}


def _test_independence(table: Floats) -> float:
    """Return the p-value of Pearson's chi-squared test of a table of two rows; of two columns with Yates' correction.

    As `scipy.stats.chi2_contingency`, in a hundredth of its time.
    """
    from scipy.special import chdtrc

    expected = np.outer(table.sum(axis=1), table.sum(axis=0)) / table.sum()
    difference = np.abs(table - expected)
    if table.shape[1] == 2:
        difference -= np.minimum(0.5, difference)
    return float(chdtrc(table.shape[1] - 1, (difference**2 / expected).sum()))


def _correct_selection(counts: Floats, reference: Floats) -> tuple[Floats, Floats]:
    """Correct the counts for the selection of the most frequent values; the last count is that of all other values.

    The profile names the values that are most frequent in the reference. Other rows would select other values, so the
    reference counts of values near the border of the selection are too high by chance. These values count as one, with
    the reference count that is nearest to the current share, at most two standard deviations (Poisson) below its own.
    """
    named, other = reference[:-1], reference[-1]
    is_near_border = named - _SELECTION_DEVIATIONS * np.sqrt(named) <= named.min()
    counted, now = named[is_near_border].sum(), counts[:-1][is_near_border].sum()
    least = np.maximum(named - _CORRECTION_DEVIATIONS * np.sqrt(named), 0)[is_near_border].sum()
    corrected = np.clip(now / counts.sum() * reference.sum(), least, counted)
    return (
        np.asarray([*counts[:-1][~is_near_border], now, counts[-1]]),
        np.asarray([*named[~is_near_border], corrected, other + counted - corrected]),
    )


def _missing(now: ColumnProfile, reference: ColumnProfile) -> dict[str, Any]:
    change = abs(now.missing / max(now.rows, 1) - reference.missing / max(reference.rows, 1))
    if change <= _MISSING:
        return {"kind": "missing", "effect": change, "least": _MISSING, "p_value": 1.0}
    p_value = _compare_shares(now.missing, now.rows, reference.missing, reference.rows)
    return {"kind": "missing", "effect": change, "least": _MISSING, "p_value": p_value}


def _compare_shares(count: int, rows: int, other_count: int, other_rows: int) -> float:
    """Return the p-value of two equal shares: by Fisher's exact test, or with many rows by the normal distribution."""
    share = (count + other_count) / (rows + other_rows)
    expected = min(share, 1 - share) * min(rows, other_rows)
    if expected < _MANY_EXPECTED:
        from scipy.stats import fisher_exact

        table = [[count, rows - count], [other_count, other_rows - other_count]]
        return float(fisher_exact(table)[1])
    error = math.sqrt(share * (1 - share) * (1 / rows + 1 / other_rows))
    return math.erfc(abs(count / rows - other_count / other_rows) / error / math.sqrt(2))
