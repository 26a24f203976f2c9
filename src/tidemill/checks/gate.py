"""The gate: what was found of a candidate, put together in one verdict."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from tidemill.core.check import Outcome, Verdict


class Finding(Struct, frozen=True, kw_only=True):
    """One thing that was looked at: what it is `about`, how it came out, and why; `evidence` are its numbers."""

    about: str
    outcome: Outcome = "pass"
    reason: str
    evidence: dict[str, Any] = {}


def combine_findings(subject: str, findings: Sequence[Finding], *, check: str = "gate", reference: str = "") -> Verdict:
    """One verdict on all findings: it stops where one fails, and gives every reason; a warning proceeds.

    Where all is well, the last finding has the last word: put what matters most to people there.
    """
    worst: Outcome = "pass"
    for outcome in ("warn", "fail"):
        worst = outcome if any(one.outcome == outcome for one in findings) else worst
    said = [one.reason for one in findings if one.outcome == worst] if worst != "pass" else [findings[-1].reason]
    evidence: dict[str, Any] = {}
    for one in findings:
        evidence |= one.evidence
    listed = [{"about": one.about, "outcome": one.outcome, "reason": one.reason} for one in findings]
    return Verdict(
        check=check,
        subject=subject,
        reference=reference,
        outcome=worst,
        action="stop" if worst == "fail" else "proceed",
        reason="; ".join(dict.fromkeys(said)),
        evidence=evidence | {"findings": listed},
    )
