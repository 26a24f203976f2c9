"""Checks the quality of a model in production on labelled predictions."""

from tidemill.core.check import Action, Outcome, Verdict
from tidemill.data.metrics import worse_by


def performance(
    metric: str,
    now: float,
    reference: float,
    rows: int,
    *,
    subject: str,
    limit: float,
    action: Action,
    minimum: int,
    reach: float = 0.0,
    about: str = "at release",
) -> Verdict:
    """Return a verdict on a live metric: `action` if it is proven worse than its reference by more than `limit`.

    `reach` is half the width of the interval of the difference, and `about` names the reference. If the interval covers
    the limit and the difference is above it, the verdict is undecided.
    """
    evidence = {"metric": metric, "value": now, "reference": reference, "rows": rows, "limit": limit, "reach": reach}

    def create_verdict(outcome: Outcome, action: Action, reason: str) -> Verdict:
        return Verdict(
            check="performance", subject=subject, outcome=outcome, action=action, reason=reason, evidence=evidence
        )

    if rows < minimum:
        return create_verdict("undecided", "hold", f"{rows} labels are too few (minimum {minimum})")
    worse = worse_by(metric, now, reference)
    is_beyond = not worse - reach <= limit  # also true for NaN
    side = "worse" if worse >= 0 else "better"
    reason = f"{metric} {now:.4f} is {abs(worse):.4f} {side} than {about} ({reference:.4f}), limit {limit:g}"
    if is_beyond:
        return create_verdict("fail", action, reason)
    if worse > limit:
        return create_verdict("undecided", "hold", f"{reason}: not significant (± {reach:.4f})")
    return create_verdict("pass", "proceed", reason)
