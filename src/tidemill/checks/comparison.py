"""Compares a candidate's losses with the losses of the baseline and the champion on all rows and on each slice."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from msgspec.structs import replace

from tidemill.checks.gate import Finding
from tidemill.core.check import Outcome, Verdict
from tidemill.core.policy import Gate
from tidemill.data.arrays import Booleans, Floats
from tidemill.data.dependence import estimate_inflation
from tidemill.data.metrics import bootstrap_interval

LEAST_COMPARED = 50
_TOLERATED_SHARE = 0.2
CHAMPION_CHECKS = "champion_checks"
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
    """Compare the losses of the same test rows; each array has the shape (rows,) and finite values.

    A candidate passes if three conditions are met:

    - It is proven better than the trivial baseline.
    - It is not worse than the champion by more than the margin.
    - On no slice is it proven worse by more than the tolerance (lower bound of a paired bootstrap interval). The
      reference on slices is the champion, or the baseline if there is no champion.

    A comparison is undecided if its interval covers the bound.

    Parameters
    ----------
    unseen : the rows that the champion was not trained on; only these rows compare it with the candidate. If there are
        fewer than 50, the finding is a warning and live traffic decides; with `better` in the policy it is a failure.
    """
    against_baseline = _compare_with_baseline(candidate, baseline, policy)
    if champion is None:
        return [*_compare_slices(candidate - baseline, slices, policy, "baseline"), against_baseline]
    findings = compare_with_champion(candidate, champion, policy=policy, slices=slices, unseen=unseen)
    return [against_baseline, *findings]


def compare_with_champion(
    candidate: Floats,
    champion: Floats,
    *,
    policy: Gate,
    slices: dict[str, Booleans],
    unseen: Booleans | None = None,
    has_canary: bool = True,
    in_time_order: bool = False,
) -> list[Finding]:
    """Compare a candidate with the champion, on all rows and on each slice, as `compare` does.

    If a canary follows (`has_canary`), a candidate passes without a proof that it is not worse; otherwise it needs one.
    With rows `in_time_order`, intervals are as wide as rows that are near in time and alike require
    (`estimate_inflation`). If a canary follows, a candidate then fails only if it is worse by a further fifth of the
    champion's loss: a test is one period, and which of two models is better often differs in the next one. The canary
    compares them in that next period.
    """
    fresh = np.ones(len(candidate), dtype=bool) if unseen is None else unseen
    evidence: dict[str, object] = {"compared_rows": int(fresh.sum()), "margin": policy.margin}
    if fresh.sum() < LEAST_COMPARED:
        count, rows = int(fresh.sum()), "test row" if fresh.sum() == 1 else "test rows"
        trained = f"all but {count:,} {rows}" if count else "all test rows"
        return [cannot_compare(f"the champion was trained on {trained}", policy, evidence)]
    difference = candidate - champion
    fresh_slices = {name: inside & fresh for name, inside in slices.items()}
    inflation = estimate_inflation(difference[fresh]) if in_time_order else 1.0
    on_slices = _compare_slices(difference, fresh_slices, policy, "champion", inflation)
    tolerated = _TOLERATED_SHARE * float(champion[fresh].mean()) if in_time_order and has_canary else 0.0
    if in_time_order:
        evidence["dependence"] = inflation
    return [
        *on_slices,
        _compare_with_champion(candidate[fresh], champion[fresh], policy, evidence, has_canary, inflation, tolerated),
    ]


def choose_better_of_two(findings: list[Finding]) -> list[Finding]:
    """Return the findings with a warning about the baseline, where the candidate is better than the champion.

    The trivial baseline is no model that can serve: the choice is between the candidate and the champion. So if the
    baseline is better than both, or it is unclear whether the candidate is better than it, a candidate that has a lower
    loss than the champion on rows that neither has learned is still the better choice. If it is certain that the
    candidate is not better than the baseline, its loss must be lower by a fifth of the champion's: on wrong labels,
    both are worse than the baseline. If the champion is better than the baseline, a candidate that is not is refused.
    """
    standing = next((finding.evidence for finding in findings if finding.about == CHAMPION_CHECKS), None)
    if standing is None or standing["compared_loss"] >= standing["compared_champion_loss"]:
        return findings
    champion_is_no_better = standing["compared_champion_loss"] >= standing["compared_baseline_loss"]
    is_much_better = standing["compared_loss"] < standing["compared_champion_loss"] * (1 - _TOLERATED_SHARE)
    return [
        replace(finding, outcome="warn", reason=f"{finding.reason}; {_describe_better(standing)}")
        if finding.about == "baseline"
        and (finding.outcome == "undecided" or (finding.outcome == "fail" and champion_is_no_better and is_much_better))
        else finding
        for finding in findings
    ]


def _describe_better(standing: dict[str, Any]) -> str:
    candidate, champion = standing["compared_loss"], standing["compared_champion_loss"]
    return (
        f"it is the better of the two that can serve: loss {candidate:.4f} against {champion:.4f} of the champion, on "
        "rows that neither has learned"
    )


def describe_champion(verdict: Verdict) -> Verdict:
    """Return a verdict that stops a candidate, with whether the champion itself would pass the same checks."""
    listed = verdict.evidence.get("findings", [])
    reason = next((finding["reason"] for finding in listed if finding["about"] == CHAMPION_CHECKS), "")
    return replace(verdict, reason=f"{verdict.reason}; {reason}") if reason else verdict


def cannot_compare(why: str, policy: Gate, evidence: dict[str, object] | None = None) -> Finding:
    """Return a warning, because live traffic decides; a failure if the policy requires a proof (`better`)."""
    summary = "no proof that the candidate is better" if policy.better else "live traffic decides"
    outcome: Outcome = "fail" if policy.better else "warn"
    return Finding(about="champion", outcome=outcome, reason=f"{why}: {summary}", evidence=evidence or {})


def _compare_with_baseline(candidate: Floats, baseline: Floats, policy: Gate) -> Finding:
    low, high = bootstrap_interval(candidate - baseline, policy.confidence)
    evidence = {
        "rows": len(candidate),
        "loss": float(candidate.mean()),
        "baseline_loss": float(baseline.mean()),
        "against_baseline": (low, high),
    }
    summary = f"{_format_losses(candidate, baseline)}, {_format_difference(candidate - baseline, low, high)}"
    if high < -policy.baseline_margin:
        return Finding(about="baseline", reason=f"better than the trivial baseline: {summary}", evidence=evidence)
    if low >= -policy.baseline_margin:
        reason = f"not better than the trivial baseline: {summary}"
        return Finding(about="baseline", outcome="fail", reason=reason, evidence=evidence)
    reason = (
        f"{len(candidate)} test rows are too few to show whether it is better than the trivial baseline: "
        f"{summary}; collect more rows, test on more of them ([training] test), or lower [gate] confidence"
    )
    return Finding(about="baseline", outcome="undecided", reason=reason, evidence=evidence)


def compare_on_folds(candidate: Floats, baseline: Floats, policy: Gate, *, folds: int, ratio: float) -> Finding:
    """Compare the losses of all folds of a table, each from a model that was not fitted on its row, with the baseline.

    The models of the folds share most of their training rows, so the bootstrap interval is wider by the factor of
    Nadeau and Bengio (2003, "Inference for the generalization error", section 3): the square root of 1 + folds x ratio,
    where `ratio` is the number of test rows per training row.
    """
    differences = candidate - baseline
    middle = float(differences.mean())
    stretch = float(np.sqrt(1 + folds * ratio))
    low, high = (middle + stretch * (bound - middle) for bound in bootstrap_interval(differences, policy.confidence))
    evidence = {
        "folds": folds,
        "fold_rows": len(candidate),
        "fold_loss": float(candidate.mean()),
        "fold_baseline_loss": float(baseline.mean()),
        "against_baseline_on_folds": (low, high),
    }
    summary = f"{_format_losses(candidate, baseline)}, {_format_difference(differences, low, high)}"
    about = f"{len(candidate)} rows in {folds} folds, each predicted by a model that was not fitted on it"
    if high < -policy.baseline_margin:
        return Finding(
            about="baseline", reason=f"better than the trivial baseline: {summary} ({about})", evidence=evidence
        )
    if low >= -policy.baseline_margin:
        reason = f"not better than the trivial baseline: {summary} ({about})"
        return Finding(about="baseline", outcome="fail", reason=reason, evidence=evidence)
    reason = (
        f"too few rows to show whether it is better than the trivial baseline: {summary} ({about}); collect more rows, "
        "or lower [gate] confidence"
    )
    return Finding(about="baseline", outcome="undecided", reason=reason, evidence=evidence)


def _compare_with_champion(
    candidate: Floats,
    champion: Floats,
    policy: Gate,
    evidence: dict[str, object],
    has_canary: bool,
    inflation: float,
    tolerated: float,
) -> Finding:
    low, high = _find_interval(candidate - champion, policy, inflation)
    evidence |= {"champion_loss": float(champion.mean()), "against_champion": (low, high)}
    summary = f"{_format_losses(candidate, champion)}, {_format_difference(candidate - champion, low, high)}"
    if low > policy.margin + tolerated:
        return Finding(
            about="champion", outcome="fail", reason=f"worse than the champion: {summary}", evidence=evidence
        )
    if policy.better and high >= 0:
        reason = f"not proven better than the champion, as its policy requires: {summary}"
        return Finding(about="champion", outcome="fail", reason=reason, evidence=evidence)
    if low > policy.margin:
        reason = (
            f"worse than the champion in this period, by less than a fifth of its loss; a canary decides: {summary}"
        )
        return Finding(about="champion", outcome="undecided", reason=reason, evidence=evidence)
    if (candidate - champion).mean() > policy.margin or (high > policy.margin and not has_canary):
        reason = f"{len(candidate)} test rows are too few to show whether it is worse than the champion: {summary}"
        return Finding(about="champion", outcome="undecided", reason=reason, evidence=evidence)
    return Finding(about="champion", reason=f"not worse than the champion: {summary}", evidence=evidence)


def _find_interval(differences: Floats, policy: Gate, inflation: float) -> tuple[float, float]:
    """Return the interval of a mean difference, wider by `inflation`."""
    middle = float(differences.mean())
    low, high = bootstrap_interval(differences, policy.confidence)
    return middle + inflation * (low - middle), middle + inflation * (high - middle)


def _compare_slices(
    difference: Floats, slices: dict[str, Booleans], policy: Gate, reference: str, inflation: float = 1.0
) -> list[Finding]:
    """Return the slice on which the candidate is proven worst; if there is none, the number of compared slices."""
    worst: tuple[float, Finding] | None = None
    compared = 0
    for name, rows in slices.items():
        if rows.sum() < policy.slice_minimum:
            continue
        compared += 1
        low, high = _find_interval(difference[rows], policy, inflation)
        if low > max(policy.slice_tolerance, worst[0] if worst else -np.inf):
            evidence = {"slice": name, "slice_rows": int(rows.sum()), f"against_{reference}_on_slice": (low, high)}
            title = "champion" if reference == "champion" else "trivial baseline"
            reason = f"worse than the {title} on {name} by at least {low:.4f}"
            worst = low, Finding(about="slices", outcome="fail", reason=reason, evidence=evidence)
    if worst is not None:
        return [worst[1]]
    return [Finding(about="slices", reason=f"worse on none of {compared} slices")] if compared else []


def check_metric_thresholds(
    values: Mapping[str, float],
    thresholds: Mapping[str, str],
    intervals: Mapping[str, tuple[float, float]] | None = None,
) -> list[Finding]:
    """Check the metrics of the test rows against thresholds, such as `>= 0.7`; a metric that was not measured fails.

    A metric is undecided if its interval covers its threshold.
    """
    findings = []
    for name, threshold in thresholds.items():
        sign = threshold[:2] if threshold[1] == "=" else threshold[0]
        value = values.get(name)
        evidence = {f"threshold_{name}": threshold, f"test_{name}": value}
        if value is None:
            reason = f"{name} must be {threshold}, but was not measured (measured: {', '.join(sorted(values))})"
        else:
            reason = f"{name} is {value:.4g}, but must be {threshold}"
        bound = float(threshold[len(sign) :])
        is_met = value is not None and _SIGNS[sign](value, bound)
        if is_met:
            reason = f"{name} is {value:.4g}, as required ({threshold})"
        outcome: Outcome = "pass" if is_met else "fail"
        low, high = (intervals or {}).get(name, (bound, bound))
        if value is not None and low < bound < high:
            outcome = "undecided"
            reason = (
                f"{name} is {value:.4g} ({low:.4g} to {high:.4g}): too few rows to decide whether it is {threshold}"
            )
        findings.append(Finding(about=name, outcome=outcome, reason=reason, evidence=evidence))
    return findings


def check_predictions(first: Floats, losses: Floats, again: Floats | None = None) -> list[Finding]:
    """Check that predictions are finite, that those of classes are probabilities, and that they are deterministic.

    `first` contains all predictions, of shape (rows,) or (rows, classes); `losses` contains the losses of all rows;
    `again` contains the predictions of the first rows from a second request.
    """
    bad = ~(np.isfinite(losses) & np.isfinite(first if first.ndim == 1 else first.sum(axis=1)))
    if bad.any():
        reason = f"the predictions of {int(bad.sum())} rows are not finite"
        return [
            Finding(about="answers", outcome="fail", reason=reason, evidence={"rows_without_answer": int(bad.sum())})
        ]
    if first.ndim == 2 and len(first) and not np.allclose(first.sum(axis=1), 1, atol=1e-4):
        return [Finding(about="answers", outcome="fail", reason="the probabilities of a row do not sum to 1")]
    if first.ndim == 2 and (beyond := int(((first < -_ROUNDING) | (first > 1 + _ROUNDING)).any(axis=1).sum())):
        reason = f"the predictions of {beyond} rows are not probabilities: below 0 or above 1"
        return [Finding(about="answers", outcome="fail", reason=reason, evidence={"rows_beyond": beyond})]
    if again is not None and len(again) and not np.array_equal(first[: len(again)], again):
        apart = float(np.abs(first[: len(again)] - again).max())
        reason = f"not deterministic: two predictions of the same rows differ by up to {apart:.3g}"
        return [Finding(about="determinism", outcome="fail", reason=reason, evidence={"answers_apart": apart})]
    return [Finding(about="answers", reason="all predictions are finite, and equal when requested again")]


def _format_difference(differences: Floats, low: float, high: float) -> str:
    return f"difference {differences.mean():+.4f} ({low:+.4f} to {high:+.4f})"


def _format_losses(candidate: Floats, reference: Floats) -> str:
    return f"loss {candidate.mean():.4f} against {reference.mean():.4f}"
