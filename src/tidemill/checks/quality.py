"""Judges models by their losses: the gate before a release, and the watch over one in production."""

import numpy as np
import numpy.typing as npt

from tidemill.core.check import Action, Verdict
from tidemill.core.policy import Gate
from tidemill.data.metrics import bootstrap_interval, worse_by

Floats = npt.NDArray[np.float64]


def gate(
    candidate: Floats,
    baseline: Floats,
    champion: Floats | None,
    *,
    subject: str,
    policy: Gate,
    slices: dict[str, npt.NDArray[np.bool_]],
    reference: str = "",
) -> Verdict:
    """A verdict on a candidate from the losses of the same test rows, each of shape (rows,).

    It must be finite everywhere, on average better than the trivial baseline, not worse than the champion by more
    than the margin (the upper bound of a paired bootstrap interval), and on no slice clearly worse than the tolerance.
    """
    evidence: dict[str, object] = {"rows": len(candidate), "loss": float(candidate.mean())}
    if not np.isfinite(candidate).all():
        bad = int((~np.isfinite(candidate)).sum())
        return _judge(subject, reference, "fail", f"its answers are not finite on {bad} rows", evidence)
    low, high = bootstrap_interval(candidate - baseline, policy.confidence)
    evidence |= {"baseline_loss": float(baseline.mean()), "against_baseline": [low, high]}
    if not candidate.mean() < baseline.mean() - policy.baseline_margin:
        return _judge(
            subject, reference, "fail", f"not better than the trivial baseline: {_loss(candidate, baseline)}", evidence
        )
    if champion is None:
        return _judge(
            subject, reference, "pass", f"better than the trivial baseline: {_loss(candidate, baseline)}", evidence
        )
    difference = candidate - champion
    low, high = bootstrap_interval(difference, policy.confidence)
    evidence |= {"champion_loss": float(champion.mean()), "against_champion": [low, high], "margin": policy.margin}
    if low > policy.margin or (high > policy.margin and difference.mean() > policy.margin):
        return _judge(subject, reference, "fail", f"worse than the champion: {_loss(candidate, champion)}", evidence)
    for name, inside in slices.items():
        if inside.sum() < policy.slice_minimum:
            continue
        low, high = bootstrap_interval(difference[inside], policy.confidence)
        if low > policy.slice_tolerance:
            evidence |= {"slice": name, "slice_rows": int(inside.sum()), "against_champion_on_slice": [low, high]}
            return _judge(
                subject, reference, "fail", f"worse than the champion on {name} by at least {low:.4f}", evidence
            )
    return _judge(subject, reference, "pass", f"not worse than the champion: {_loss(candidate, champion)}", evidence)


def _loss(one: Floats, other: Floats) -> str:
    return f"loss {one.mean():.4f} against {other.mean():.4f}"


def _judge(subject: str, reference: str, outcome: str, reason: str, evidence: dict[str, object]) -> Verdict:
    passed = outcome == "pass"
    return Verdict(
        check="gate",
        subject=subject,
        reference=reference,
        outcome="pass" if passed else "fail",
        action="proceed" if passed else "stop",
        reason=reason,
        evidence=evidence,
    )


def performance(
    metric: str, now: float, reference: float, rows: int, *, subject: str, limit: float, action: Action, minimum: int
) -> Verdict:
    """A verdict on a live metric: `action` where it is worse than at release by more than `limit`."""
    evidence = {"metric": metric, "value": now, "reference": reference, "rows": rows, "limit": limit}
    if rows < minimum:
        reason = f"{rows} labels are too few to tell (at least {minimum})"
        return Verdict(
            check="performance", subject=subject, outcome="undecided", action="hold", reason=reason, evidence=evidence
        )
    worse = worse_by(metric, now, reference)
    beyond = worse > limit
    side = "worse" if worse >= 0 else "better"
    return Verdict(
        check="performance",
        subject=subject,
        outcome="fail" if beyond else "pass",
        action=action if beyond else "proceed",
        reason=f"{metric} {now:.4f} is {abs(worse):.4f} {side} than at release ({reference:.4f}), limit {limit:g}",
        evidence=evidence,
    )
