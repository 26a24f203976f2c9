"""Checks whether later rows are distributed like the training rows of a model: value skew, which never stops."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tidemill.core.check import Action, Verdict
from tidemill.data.arrays import Floats
from tidemill.data.statistics import ColumnProfile, Profile

_KS = 0.05
_CATEGORY = 0.03
_MISSING = 0.03
_LEAST_EXPECTED = 5
_SURE = 3.0
_LUCK = 2.0


def drift(
    now: Profile, reference: Profile, *, subject: str, limit: float, action: Action, minimum: int, level: float = 0.01
) -> Verdict:
    """Return a verdict on the share of columns that moved: `action` if it is above `limit`.

    A column moved when the effect is large *and* proven. Large is a Kolmogorov–Smirnov distance above .05, a category's
    share that changed by more than .03, or a missing share that did; times pass, and only their missing share counts.
    Proven is a p-value that Holm's procedure (1979) rejects at `level` among the two tests of each column: where
    nothing changed and rows are independent, in at most `level` of the windows any column is summary to have moved,
    however many columns there are. That also holds for words of a large vocabulary (tail numbers, free text), whose
    most frequent ones are so by luck, and for values with a weekly rhythm, as long as windows and reference are whole
    weeks; part of a week is another mixture of days, and is told as such. A shift of a quarter of a deviation is seen
    in 95 of 100 windows of 2,000 rows (half a deviation: 500 rows); a tenth of one is too little to count, and told in
    one window of a hundred of 10,000 rows.
    """
    if now.rows < minimum:
        return Verdict(
            check="drift",
            subject=subject,
            outcome="undecided",
            action="hold",
            reason=f"{now.rows} rows are too few (minimum {minimum})",
            evidence={"rows": now.rows},
        )
    known = {column.name: column for column in reference.columns}
    shared = [column for column in now.columns if column.name in known]
    tests = [test for column in shared for test in column_tests(column, known[column.name])]
    for test, adjusted in zip(tests, holm([test["p_value"] for test in tests]), strict=True):
        test["moved"] = adjusted < level and test["effect"] > test["least"]
    compared = [
        max((test for test in tests if test["column"] == name), key=_weight)
        for name in dict.fromkeys(test["column"] for test in tests)
    ]
    moved = sorted((one for one in compared if one["moved"]), key=lambda one: -one["effect"])
    share = len(moved) / max(len(compared), 1)
    beyond = share > limit
    summary = ", ".join(f"{one['column']} ({one['effect']:.2f})" for one in moved[:4]) or "none"
    return Verdict(
        check="drift",
        subject=subject,
        outcome="fail" if beyond else "pass",
        action=action if beyond else "proceed",
        reason=f"{len(moved)} of {len(compared)} columns moved: {summary}",
        evidence={"rows": now.rows, "share": share, "limit": limit, "level": level, "columns": compared},
    )


def compare(now: ColumnProfile, reference: ColumnProfile) -> dict[str, Any]:
    """How far a column is from its reference: the effect, the least effect that counts, and a p-value."""
    return max(column_tests(now, reference), key=_weight)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted so that those below a level, all together, are wrong at most at that rate (Holm 1979).

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    ordered = np.sort(p_values)
    steps = np.maximum.accumulate(ordered * np.arange(len(ordered), 0, -1)).clip(0, 1)
    adjusted: list[float] = steps[np.searchsorted(ordered, p_values)].tolist() if len(ordered) else []
    return adjusted


def _weight(test: dict[str, Any]) -> tuple[bool, bool, float]:
    return bool(test.get("moved")), test["effect"] > test["least"], test["effect"] / test["least"]


def column_tests(now: ColumnProfile, reference: ColumnProfile) -> list[dict[str, Any]]:
    """The tests of a column: of its missing share, and of its values as far as they can be compared."""
    found = [_missing(now, reference)]
    if reference.type == "text":
        found.append(_categories(now, reference))
    elif (reference.edges or any(reference.infinite)) and reference.type not in ("time", "date"):
        found.append(_distribution(now, reference))
    return [{"column": now.name, **one} for one in found]


def _distribution(now: ColumnProfile, reference: ColumnProfile) -> dict[str, Any]:
    """Two-sample Kolmogorov–Smirnov at the reference's edges: the distance on raw rows, or at most 1/40 less.

    Infinite values count as the least and the greatest ones.
    """
    from scipy.stats import kstwobign

    n, m = (column.present + sum(column.infinite) for column in (now, reference))
    if not n or not m:
        return {"kind": "distribution", "effect": 0.0, "least": _KS, "p_value": 1.0}
    distance = float(np.abs(_cumulated(now, reference) / n - _cumulated(reference, reference) / m).max())
    p_value = float(kstwobign.sf(distance * np.sqrt(n * m / (n + m))))
    return {"kind": "distribution", "effect": distance, "least": _KS, "p_value": p_value}


def _cumulated(column: ColumnProfile, reference: ColumnProfile) -> Floats:
    """How many rows are at or below each edge, and how many below it; in between there is little of the reference."""
    lowest = column.infinite[0]
    up_to = lowest + np.cumsum(np.asarray(column.counts, float))
    # The profile of a model of an earlier version does not count ties.
    below = up_to[:-1] - np.asarray(column.ties) if len(reference.ties) == len(reference.edges) else up_to[:0]
    return np.concatenate(([lowest], up_to, below))


def _categories(now: ColumnProfile, reference: ColumnProfile) -> dict[str, Any]:
    from scipy.stats import chi2_contingency

    names = list(reference.values)
    mine = np.asarray([*(now.values.get(name, 0) for name in names), now.other], float)
    theirs = np.asarray([*(reference.values[name] for name in names), reference.other], float)
    if reference.other and names and mine.sum():
        mine, theirs = _without_luck(mine, theirs)
    if not mine.sum() or not theirs.sum():
        return {"kind": "categories", "effect": 0.0, "least": _CATEGORY, "p_value": 1.0}
    effect = float(np.abs(mine / mine.sum() - theirs / theirs.sum()).max())
    table = np.stack((mine, theirs))
    expected = table.sum(axis=0) * table.sum(axis=1).min() / table.sum()
    # Where few are expected the statistic is not chi-squared: such categories count as one (Cochran 1954).
    rare = expected < _LEAST_EXPECTED
    table = np.column_stack((table[:, ~rare], table[:, rare].sum(axis=1)))
    table = table[:, table.sum(axis=0) > 0]
    p_value = float(chi2_contingency(table)[1]) if table.shape[1] > 1 else 1.0
    return {"kind": "categories", "effect": effect, "least": _CATEGORY, "p_value": p_value}


def _without_luck(mine: Floats, theirs: Floats) -> tuple[Floats, Floats]:
    """Counts without what the most frequent of many values owe to luck; the last one counts all others.

    Those that barely came among the named ones are more frequent in the reference than they are: chosen again from
    other rows, they would be others. They count together, and within two deviations below what was counted there
    (Poisson) the reference is taken to agree with what is seen now.
    """
    named, other = theirs[:-1], theirs[-1]
    lucky = named - _SURE * np.sqrt(named) <= named.min()
    counted, now = named[lucky].sum(), mine[:-1][lucky].sum()
    least = np.maximum(named - _LUCK * np.sqrt(named), 0)[lucky].sum()
    agreed = np.clip(now / mine.sum() * theirs.sum(), least, counted)
    return (
        np.asarray([*mine[:-1][~lucky], now, mine[-1]]),
        np.asarray([*named[~lucky], agreed, other + counted - agreed]),
    )


def _missing(now: ColumnProfile, reference: ColumnProfile) -> dict[str, Any]:
    from scipy.stats import fisher_exact

    change = abs(now.missing / max(now.rows, 1) - reference.missing / max(reference.rows, 1))
    if change <= _MISSING:
        return {"kind": "missing", "effect": change, "least": _MISSING, "p_value": 1.0}
    table = [[now.missing, now.rows - now.missing], [reference.missing, reference.rows - reference.missing]]
    return {"kind": "missing", "effect": change, "least": _MISSING, "p_value": float(fisher_exact(table)[1])}
