"""Compares a challenger with the champion by their losses on the same live rows."""

import numpy as np

from tidemill.core.check import Action, Outcome, Verdict
from tidemill.data.arrays import Floats
from tidemill.data.metrics import normal_quantile


def check_traffic(
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
    """Return a verdict on a challenger, from both losses on the same labelled rows, each of shape (rows,).

    The challenger is promoted when it is worse by at most `margin`: the upper bound of the mean paired difference is
    not above it. It is rolled back when the lower bound is above it, or when its time expired without a decision.
    Before there are `minimum` rows, it is rolled back only if it is worse by four standard errors on a quarter of them.

    One prediction of the challenger that is not finite causes a rollback at once; rows without a finite prediction of
    the champion are not compared.

    The bounds are one-sided and normal. Each evaluation uses them without a correction for repeated tests, so chance
    decides a few of a hundred challengers that are equal to the champion.
    """
    rows = len(challenger)
    evidence: dict[str, float] = {"rows": rows, "minimum": minimum, "margin": margin}

    def create_verdict(outcome: Outcome, action: Action, reason: str) -> Verdict:
        return Verdict(
            check="traffic",
            subject=subject,
            reference=reference,
            outcome=outcome,
            action=action,
            reason=reason,
            evidence=dict(evidence),
        )

    def decide_on_few_rows() -> Verdict:
        if expired:
            return create_verdict(
                "undecided", "rollback", f"only {rows} of {minimum} labels came before its time was up"
            )
        return create_verdict("undecided", "hold", f"{rows} of {minimum} labels")

    if broken := int((~np.isfinite(challenger)).sum()):
        return create_verdict("fail", "rollback", f"its predictions are not finite on {broken} of {rows} rows")
    has_prediction = np.isfinite(champion)
    challenger, champion, rows = challenger[has_prediction], champion[has_prediction], int(has_prediction.sum())
    evidence |= {"rows": rows} | (
        {"champion_not_finite": len(has_prediction) - rows} if rows < len(has_prediction) else {}
    )
    if rows < max(2, minimum // 4):
        return decide_on_few_rows()
    differences = challenger - champion
    mean, error = float(differences.mean()), float(differences.std(ddof=1) / np.sqrt(rows))
    reach = normal_quantile(confidence) * error
    evidence |= {
        "challenger_loss": float(challenger.mean()),
        "champion_loss": float(champion.mean()),
        "difference": mean,
        "lower": mean - reach,
        "upper": mean + reach,
    }
    losses = f"live loss {challenger.mean():.4f} against {champion.mean():.4f} on the same {rows} rows"
    losses += f", difference {mean:+.4f} ({mean - reach:+.4f} to {mean + reach:+.4f})"
    if mean - 4 * error > margin:
        return create_verdict("fail", "rollback", f"clearly worse: {losses}")
    if rows < minimum:
        return decide_on_few_rows()
    if mean + reach <= margin:
        return create_verdict("pass", "promote", f"{'better' if mean < 0 else 'not worse'}: {losses}")
    if mean - reach > margin:
        return create_verdict("fail", "rollback", f"worse: {losses}")
    if expired:
        return create_verdict("undecided", "rollback", f"its time was up without a proof: {losses}")
    return create_verdict("undecided", "hold", f"not decided yet: {losses}")
