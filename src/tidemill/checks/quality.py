"""Judges models by their losses: the gate before a release, and the watch over one in production."""

import numpy as np
import numpy.typing as npt

from tidemill.core.check import Action, Outcome, Verdict
from tidemill.core.policy import Gate
from tidemill.data.metrics import bootstrap_interval, worse_by

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.bool_]
_LEAST_COMPARED = 50


def gate(
    candidate: Floats,
    baseline: Floats,
    champion: Floats | None,
    *,
    subject: str,
    policy: Gate,
    slices: dict[str, Rows],
    unseen: Rows | None = None,
    reference: str = "",
) -> Verdict:
    """A verdict on a candidate from the losses of the same test rows, each of shape (rows,).

    It must be finite everywhere, on average better than the trivial baseline, not worse than the champion by more
    than the margin, and on no slice proven worse than the tolerance (the lower bound of a paired bootstrap).

    Parameters
    ----------
    unseen : the rows that the champion has not learned from: only on these are the two compared. Where there are
        fewer than 50, the verdict is a warning, and live traffic has to compare them.
    """
    evidence: dict[str, object] = {"rows": len(candidate), "loss": float(candidate.mean())}

    def judged(outcome: Outcome, reason: str) -> Verdict:
        return Verdict(
            check="gate",
            subject=subject,
            reference=reference,
            outcome=outcome,
            action="stop" if outcome == "fail" else "proceed",
            reason=reason,
            evidence=evidence,
        )

    if not np.isfinite(candidate).all():
        return judged("fail", f"its answers are not finite on {int((~np.isfinite(candidate)).sum())} rows")
    evidence |= {
        "baseline_loss": float(baseline.mean()),
        "against_baseline": bootstrap_interval(candidate - baseline, policy.confidence),
    }
    if not candidate.mean() < baseline.mean() - policy.baseline_margin:
        return judged("fail", f"not better than the trivial baseline: {_loss(candidate, baseline)}")
    if champion is None:
        return judged("pass", f"better than the trivial baseline: {_loss(candidate, baseline)}")
    fresh = np.ones(len(candidate), dtype=bool) if unseen is None else unseen
    evidence |= {"compared_rows": int(fresh.sum()), "margin": policy.margin}
    if fresh.sum() < _LEAST_COMPARED:
        return judged(
            "warn", f"the champion has learned from all but {int(fresh.sum())} test rows: live traffic decides"
        )
    difference = candidate - champion
    said = _loss(candidate[fresh], champion[fresh])
    evidence |= {
        "champion_loss": float(champion[fresh].mean()),
        "against_champion": bootstrap_interval(difference[fresh], policy.confidence),
    }
    if difference[fresh].mean() > policy.margin:
        return judged("fail", f"worse than the champion: {said}")
    for name, inside in slices.items():
        rows = inside & fresh
        if rows.sum() >= policy.slice_minimum:
            low, high = bootstrap_interval(difference[rows], policy.confidence)
            if low > policy.slice_tolerance:
                evidence |= {"slice": name, "slice_rows": int(rows.sum()), "against_champion_on_slice": (low, high)}
                return judged("fail", f"worse than the champion on {name} by at least {low:.4f}")
    return judged("pass", f"not worse than the champion: {said}")


def _loss(one: Floats, other: Floats) -> str:
    return f"loss {one.mean():.4f} against {other.mean():.4f}"


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
    beyond = not worse <= limit  # so that a metric that is not a number is beyond it, too
    side = "worse" if worse >= 0 else "better"
    return Verdict(
        check="performance",
        subject=subject,
        outcome="fail" if beyond else "pass",
        action=action if beyond else "proceed",
        reason=f"{metric} {now:.4f} is {abs(worse):.4f} {side} than at release ({reference:.4f}), limit {limit:g}",
        evidence=evidence,
    )
