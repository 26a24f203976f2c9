"""Judges a challenger by the losses of its own live answers against the champion's."""

import numpy as np
import numpy.typing as npt

from tidemill.core.check import Action, Outcome, Verdict

Floats = npt.NDArray[np.float64]


def traffic(
    challenger: Floats,
    champion: Floats,
    *,
    subject: str,
    reference: str,
    minimum: int,
    margin: float,
    expired: bool,
    confidence: float = 0.95,
) -> Verdict:
    """A verdict on two arms, from the loss of each labelled answer: promote, roll back, or hold for more labels.

    Once both arms have `minimum` labels: rolled back when the one-sided bound (Welch) says that the challenger is
    worse than `margin`, else promoted. Harm is not waited for: with a quarter of the labels, a challenger that is
    worse by four standard errors goes at once. One that finds no labels until its time has expired goes too.
    """
    n, m = len(challenger), len(champion)
    evidence = {"challenger_rows": n, "champion_rows": m, "minimum": minimum, "margin": margin}
    if min(n, m) < max(2, minimum // 4):
        if expired:
            return _judge(
                subject, reference, "undecided", "rollback", "too few labels came before its time was up", evidence
            )
        return _judge(subject, reference, "undecided", "hold", f"{min(n, m)} of {minimum} labels", evidence)
    difference = float(challenger.mean() - champion.mean())
    error = float(np.sqrt(challenger.var(ddof=1) / n + champion.var(ddof=1) / m))
    evidence |= {
        "challenger_loss": float(challenger.mean()),
        "champion_loss": float(champion.mean()),
        "difference": difference,
        "standard_error": error,
    }
    said = f"live loss {challenger.mean():.4f} against {champion.mean():.4f} on {n} and {m} labels"
    if difference - 4 * error > margin:
        return _judge(subject, reference, "fail", "rollback", f"clearly worse: {said}", evidence)
    if min(n, m) < minimum:
        return _judge(subject, reference, "undecided", "hold", f"{min(n, m)} of {minimum} labels", evidence)
    quantile = _normal_quantile(confidence)
    if difference - quantile * error > margin:
        return _judge(subject, reference, "fail", "rollback", f"worse: {said}", evidence)
    return _judge(subject, reference, "pass", "promote", f"not worse: {said}", evidence)


def _normal_quantile(confidence: float) -> float:
    from scipy.stats import norm

    return float(norm.ppf(confidence))


def _judge(
    subject: str, reference: str, outcome: Outcome, action: Action, reason: str, evidence: dict[str, float]
) -> Verdict:
    return Verdict(
        check="traffic",
        subject=subject,
        reference=reference,
        outcome=outcome,
        action=action,
        reason=reason,
        evidence=dict(evidence),
    )
