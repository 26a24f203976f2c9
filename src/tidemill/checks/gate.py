"""The gate: what was found of a candidate, put together in one verdict."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from tidemill.core.check import Outcome, Verdict

# From the least to the most serious: the most serious finding is the verdict's outcome.
_BY_WEIGHT: tuple[Outcome, ...] = ("warn", "undecided", "fail")
# What a canary decides, where the test rows do not.
_BY_TRAFFIC = ("baseline", "champion")


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that was looked at: what it is `about`, how it came out, and why; `evidence` are its numbers."""

    about: str
    outcome: Outcome = "pass"
    reason: str
    evidence: dict[str, Any] = {}


def combine_findings(
    subject: str, findings: Sequence[Finding], *, check: str = "gate", reference: str = "", on_trial: bool = True
) -> Verdict:
    """One verdict on all findings: it stops where one fails, and gives every reason; a warning proceeds.

    What is undecided by too few rows collects more of them, and releases nothing; a comparison of losses proceeds
    where live traffic will decide between it and a champion (`on_trial`).

    Where all is well, the last finding has the last word: put what matters most to people there.
    """
    worst: Outcome = "pass"
    for outcome in _BY_WEIGHT:
        worst = outcome if any(one.outcome == outcome for one in findings) else worst
    said = [one.reason for one in findings if one.outcome == worst] if worst != "pass" else [findings[-1].reason]
    collects = any(one.outcome == "undecided" and not (on_trial and one.about in _BY_TRAFFIC) for one in findings)
    evidence: dict[str, Any] = {}
    for one in findings:
        evidence |= one.evidence
    listed = [{"about": one.about, "outcome": one.outcome, "reason": one.reason} for one in findings]
    return Verdict(
        check=check,
        subject=subject,
        reference=reference,
        outcome=worst,
        action="stop" if worst == "fail" else "collect" if collects else "proceed",
        reason="; ".join(dict.fromkeys(said)),
        evidence=evidence | {"findings": listed},
    )
