"""Compares a candidate's losses with those of the baseline and the champion on the same rows, also on each slice."""

import numpy as np

from tidemill.checks.gate import Finding
from tidemill.core.check import Outcome
from tidemill.core.policy import Gate
from tidemill.data.arrays import Booleans, Floats
from tidemill.data.metrics import bootstrap_interval

_LEAST_COMPARED = 50
_ROUNDING = 1e-6
_SIGNS = {
    ">=": lambda value, bound: value >= bound,
    "<=": lambda value, bound: value <= bound,
    ">": lambda value, bound: value > bound,
    "<": lambda value, bound: value < bound,
}


def compare(
    candidate: Floats,
    baseline: Floats,
    champion: Floats | None,
    *,
    policy: Gate,
    slices: dict[str, Booleans],
    unseen: Booleans | None = None,
) -> list[Finding]:
    """Return the findings from losses of the same test rows, each of shape (rows,) and finite.

    Proven better than the trivial baseline, not worse than the champion by more than the margin, and on no slice
    proven worse than the tolerance (the lower bound of a paired bootstrap) than the champion; than the baseline,
    where nobody is champion yet. What is proven neither way, as its interval covers the bound, is undecided.

    Parameters
    ----------
    unseen : the rows that the champion has not learned from: only on these are the two compared. Where there are
        fewer than 50 it is a warning, and live traffic has to compare them; a policy that asks for a proof has none.
    """
    found = [_against_baseline(candidate, baseline, policy)]
    if champion is None:
        return [*_on_slices(candidate - baseline, slices, policy, "baseline"), *found]
    return [*found, *compare_with_champion(candidate, champion, policy=policy, slices=slices, unseen=unseen)]


def compare_with_champion(
    candidate: Floats,
    champion: Floats,
    *,
    policy: Gate,
    slices: dict[str, Booleans],
    unseen: Booleans | None = None,
    has_canary: bool = True,
) -> list[Finding]:
    """The part of `compare` that is about the champion, on rows of their own.

    A candidate that seems not to be worse passes where it goes `has_canary`; else this must be proven.
    """
    fresh = np.ones(len(candidate), dtype=bool) if unseen is None else unseen
    evidence: dict[str, object] = {"compared_rows": int(fresh.sum()), "margin": policy.margin}
    if fresh.sum() < _LEAST_COMPARED:
        but = f"all but {int(fresh.sum())}" if fresh.any() else "all"
        return [cannot_compare(f"the champion has learned from {but} test rows", policy, evidence)]
    difference = candidate - champion
    suffering = _on_slices(difference, {name: inside & fresh for name, inside in slices.items()}, policy, "champion")
    return [*suffering, _against_champion(candidate[fresh], champion[fresh], policy, evidence, has_canary)]


def cannot_compare(why: str, policy: Gate, evidence: dict[str, object] | None = None) -> Finding:
    """A warning, as live traffic has to compare them; a failure where the policy asks for a proof."""
    summary = "nothing proves it better" if policy.better else "live traffic decides"
    outcome: Outcome = "fail" if policy.better else "warn"
    return Finding(about="champion", outcome=outcome, reason=f"{why}: {summary}", evidence=evidence or {})


def _against_baseline(candidate: Floats, baseline: Floats, policy: Gate) -> Finding:
    low, high = bootstrap_interval(candidate - baseline, policy.confidence)
    evidence = {
        "rows": len(candidate),
        "loss": float(candidate.mean()),
        "baseline_loss": float(baseline.mean()),
        "against_baseline": (low, high),
    }
    about = f"than the trivial baseline: {_loss(candidate, baseline)}, {_difference(candidate - baseline, low, high)}"
    if high < -policy.baseline_margin:
        return Finding(about="baseline", reason=f"better {about}", evidence=evidence)
    if low >= -policy.baseline_margin:
        return Finding(about="baseline", outcome="fail", reason=f"not better {about}", evidence=evidence)
    reason = f"{len(candidate)} test rows are too few to show whether it is better {about}; collect more rows"
    return Finding(about="baseline", outcome="undecided", reason=reason, evidence=evidence)


def _against_champion(
    candidate: Floats, champion: Floats, policy: Gate, evidence: dict[str, object], has_canary: bool
) -> Finding:
    low, high = bootstrap_interval(candidate - champion, policy.confidence)
    evidence |= {"champion_loss": float(champion.mean()), "against_champion": (low, high)}
    summary = f"{_loss(candidate, champion)}, {_difference(candidate - champion, low, high)}"
    if low > policy.margin:
        return Finding(
            about="champion", outcome="fail", reason=f"worse than the champion: {summary}", evidence=evidence
        )
    if policy.better and high >= 0:
        reason = f"not proven better than the champion, as its policy asks: {summary}"
        return Finding(about="champion", outcome="fail", reason=reason, evidence=evidence)
    if (candidate - champion).mean() > policy.margin or (high > policy.margin and not has_canary):
        reason = f"{len(candidate)} test rows are too few to show whether it is worse than the champion: {summary}"
        return Finding(about="champion", outcome="undecided", reason=reason, evidence=evidence)
    return Finding(about="champion", reason=f"not worse than the champion: {summary}", evidence=evidence)


def _on_slices(difference: Floats, slices: dict[str, Booleans], policy: Gate, other: str) -> list[Finding]:
    """The slice on which it suffers most, if on any it is proven to; else how many were looked at."""
    worst: tuple[float, Finding] | None = None
    looked = 0
    for name, rows in slices.items():
        if rows.sum() < policy.slice_minimum:
            continue
        looked += 1
        low, high = bootstrap_interval(difference[rows], policy.confidence)
        if low > max(policy.slice_tolerance, worst[0] if worst else -np.inf):
            evidence = {"slice": name, "slice_rows": int(rows.sum()), f"against_{other}_on_slice": (low, high)}
            than = "champion" if other == "champion" else "trivial baseline"
            reason = f"worse than the {than} on {name} by at least {low:.4f}"
            worst = low, Finding(about="slices", outcome="fail", reason=reason, evidence=evidence)
    if worst is not None:
        return [worst[1]]
    return [Finding(about="slices", reason=f"it suffers on none of {looked} slices")] if looked else []


def check_metric_thresholds(
    values: dict[str, float], policy: Gate, intervals: dict[str, tuple[float, float]] | None = None
) -> list[Finding]:
    """Check the metrics of the test rows against the policy's thresholds; a metric that was not measured fails.

    A metric whose interval covers its threshold is undecided.
    """
    found = []
    for name, threshold in policy.thresholds.items():
        sign = threshold[:2] if threshold[1] == "=" else threshold[0]
        value = values.get(name)
        evidence = {f"threshold_{name}": threshold, f"test_{name}": value}
        if value is None:
            reason = f"{name}, which must be {threshold}, was not measured (there are {', '.join(sorted(values))})"
        else:
            reason = f"{name} is {value:.4g}, and must be {threshold}"
        bound = float(threshold[len(sign) :])
        kept = value is not None and _SIGNS[sign](value, bound)
        outcome: Outcome = "pass" if kept else "fail"
        low, high = (intervals or {}).get(name, (bound, bound))
        if value is not None and low < bound < high:
            outcome, reason = "undecided", f"{reason}; too few rows tell ({low:.4g} to {high:.4g})"
        found.append(Finding(about=name, outcome=outcome, reason=reason, evidence=evidence))
    return found


def check_predictions(first: Floats, losses: Floats, again: Floats | None = None) -> list[Finding]:
    """Check that predictions are finite, are probabilities for classes, and are equal when requested `again`.

    `first` are all predictions, of shape (rows,) or (rows, classes), and `losses` the losses of all rows; `again` are
    the repeated predictions of the first rows.
    """
    bad = ~(np.isfinite(losses) & np.isfinite(first if first.ndim == 1 else first.sum(axis=1)))
    if bad.any():
        reason = f"its predictions are not finite on {int(bad.sum())} rows"
        return [
            Finding(about="answers", outcome="fail", reason=reason, evidence={"rows_without_answer": int(bad.sum())})
        ]
    if first.ndim == 2 and len(first) and not np.allclose(first.sum(axis=1), 1, atol=1e-4):
        return [Finding(about="answers", outcome="fail", reason="its probabilities do not sum to 1")]
    if first.ndim == 2 and (beyond := int(((first < -_ROUNDING) | (first > 1 + _ROUNDING)).any(axis=1).sum())):
        reason = f"its predictions are not probabilities on {beyond} rows: below 0 or above 1"
        return [Finding(about="answers", outcome="fail", reason=reason, evidence={"rows_beyond": beyond})]
    if again is not None and len(again) and not np.array_equal(first[: len(again)], again):
        apart = float(np.abs(first[: len(again)] - again).max())
        reason = f"not deterministic: two predictions of the same rows differ by up to {apart:.3g}"
        return [Finding(about="determinism", outcome="fail", reason=reason, evidence={"answers_apart": apart})]
    return [Finding(about="answers", reason="every prediction is a finite number, and the same when requested again")]


def _difference(differences: Floats, low: float, high: float) -> str:
    return f"difference {differences.mean():+.4f} ({low:+.4f} to {high:+.4f})"


def _loss(one: Floats, other: Floats) -> str:
    return f"loss {one.mean():.4f} against {other.mean():.4f}"
