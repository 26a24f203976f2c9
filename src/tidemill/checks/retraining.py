"""Checks whether retraining helps: after several retrainings in vain, a person must look for another model."""

from collections.abc import Sequence
from typing import Any

from tidemill.core.check import Verdict


def check_retrainings(
    subject: str, reasons: Sequence[str], *, since: str, limit: int, checks: Sequence[str] = ()
) -> Verdict:
    """Return a verdict on retrainings in a row that did not help; `reasons` are what became of them, newest first.

    `since` is when the first of them was requested, and `checks` are the checks that requested them. From `limit` on,
    the action is `experiment`: the same recipe with newer rows does not repair what is wrong.
    """
    count = len(reasons)
    evidence: dict[str, Any] = {"retrainings": count, "limit": limit, "since": since}
    evidence |= {"reasons": list(reasons), "checks": list(checks)}
    if count < limit:
        reason = f"{count} of the last retrainings in a row did not help (limit {limit})"
        return Verdict(
            check="retraining", subject=subject, outcome="pass", action="proceed", reason=reason, evidence=evidence
        )
    reason = (
        f"the last {count} retrainings in a row did not help: {'; '.join(dict.fromkeys(reasons))}; look for other "
        "inputs, another window of rows or another estimator (`tidemill runs list`)"
    )
    return Verdict(
        check="retraining", subject=subject, outcome="fail", action="experiment", reason=reason, evidence=evidence
    )
