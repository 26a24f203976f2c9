"""Judges whether later rows still look like those that a model was trained on."""

from typing import Any

import numpy as np

from tidemill.core.check import Action, Verdict
from tidemill.data.statistics import ColumnProfile, Profile

_KS = 0.05
_CATEGORY = 0.03
_MISSING = 0.03


def drift(
    now: Profile, reference: Profile, *, subject: str, limit: float, action: Action, minimum: int, level: float = 0.01
) -> Verdict:
    """A verdict on the share of columns that moved: `action` where it is above `limit`.

    A column moved when the effect is large *and* proven: Kolmogorov–Smirnov distance above .05, or a category's
    share changed by more than .03, with a p-value below `level` divided by the number of columns (Bonferroni);
    or when its missing share changed by more than 3 points, with the same proof.
    """
    if now.rows < minimum:
        return Verdict(
            check="drift",
            subject=subject,
            outcome="undecided",
            action="hold",
            reason=f"{now.rows} rows are too few to tell (at least {minimum})",
            evidence={"rows": now.rows},
        )
    known = {column.name: column for column in reference.columns}
    compared = [compare(column, known[column.name]) for column in now.columns if column.name in known]
    bound = level / max(len(compared), 1)
    moved = [one for one in compared if one["p_value"] < bound and one["effect"] > one["least"]]
    share = len(moved) / max(len(compared), 1)
    beyond = share > limit
    moved.sort(key=lambda one: -one["effect"])
    said = ", ".join(f"{one['column']} ({one['effect']:.2f})" for one in moved[:4]) or "none"
    return Verdict(
        check="drift",
        subject=subject,
        outcome="fail" if beyond else "pass",
        action=action if beyond else "proceed",
        reason=f"{len(moved)} of {len(compared)} columns moved: {said}",
        evidence={"rows": now.rows, "share": share, "limit": limit, "columns": compared},
    )


def compare(now: ColumnProfile, reference: ColumnProfile) -> dict[str, Any]:
    """How far a column is from its reference: the effect, the least effect that counts, and a p-value."""
    found = [_missing(now, reference)]
    if reference.type == "text":
        found.append(_categories(now, reference))
    elif reference.edges:
        found.append(_distribution(now, reference))
    worst = max(found, key=lambda one: (one["effect"] > one["least"], one["effect"] / one["least"]))
    return {"column": now.name, **worst}


def _distribution(now: ColumnProfile, reference: ColumnProfile) -> dict[str, Any]:
    """Two-sample Kolmogorov–Smirnov on the reference's bins: a lower bound of the distance on raw rows."""
    from scipy.stats import kstwobign

    mine, theirs = np.asarray(now.counts, float), np.asarray(reference.counts, float)
    n, m = mine.sum(), theirs.sum()
    if not n or not m:
        return {"kind": "distribution", "effect": 0.0, "least": _KS, "p_value": 1.0}
    distance = float(np.abs(np.cumsum(mine) / n - np.cumsum(theirs) / m).max())
    p_value = float(kstwobign.sf(distance * np.sqrt(n * m / (n + m))))
    return {"kind": "distribution", "effect": distance, "least": _KS, "p_value": p_value}


def _categories(now: ColumnProfile, reference: ColumnProfile) -> dict[str, Any]:
    from scipy.stats import chi2_contingency

    names = list(reference.values)
    mine = np.asarray([*(now.values.get(name, 0) for name in names), now.other], float)
    theirs = np.asarray([*(reference.values[name] for name in names), reference.other], float)
    if not mine.sum() or not theirs.sum():
        return {"kind": "categories", "effect": 0.0, "least": _CATEGORY, "p_value": 1.0}
    effect = float(np.abs(mine / mine.sum() - theirs / theirs.sum()).max())
    seen = (mine + theirs) > 0
    p_value = float(chi2_contingency(np.stack((mine[seen], theirs[seen])))[1]) if seen.sum() > 1 else 1.0
    return {"kind": "categories", "effect": effect, "least": _CATEGORY, "p_value": p_value}


def _missing(now: ColumnProfile, reference: ColumnProfile) -> dict[str, Any]:
    from scipy.stats import fisher_exact

    change = abs(now.missing / max(now.rows, 1) - reference.missing / max(reference.rows, 1))
    if change <= _MISSING:
        return {"kind": "missing", "effect": change, "least": _MISSING, "p_value": 1.0}
    table = [[now.missing, now.rows - now.missing], [reference.missing, reference.rows - reference.missing]]
    return {"kind": "missing", "effect": change, "least": _MISSING, "p_value": float(fisher_exact(table)[1])}
