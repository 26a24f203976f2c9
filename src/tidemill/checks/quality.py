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
) -> Verdict:
    """Return a verdict on a live metric: `action` if it is proven worse than at release by more than `limit`.

    `reach` is the half width of the difference's interval: a difference beyond the limit by less is undecided.
    """
    evidence = {"metric": metric, "value": now, "reference": reference, "rows": rows, "limit": limit, "reach": reach}

    def judged(outcome: Outcome, action: Action, reason: str) -> Verdict:
        return Verdict(
            check="performance", subject=subject, outcome=outcome, action=action, reason=reason, evidence=evidence
        )

    if rows < minimum:
        return judged("undecided", "hold", f"{rows} labels are too few (minimum {minimum})")
    worse = worse_by(metric, now, reference)
    beyond = not worse - reach <= limit  # so that a metric that is not a number is beyond it, too
    side = "worse" if worse >= 0 else "better"
    reason = f"{metric} {now:.4f} is {abs(worse):.4f} {side} than at release ({reference:.4f}), limit {limit:g}"
    if beyond:
        return judged("fail", action, reason)
    if worse > limit:
        return judged("undecided", "hold", f"{reason}: chance may be {reach:.4f} of it")
    return judged("pass", "proceed", reason)
