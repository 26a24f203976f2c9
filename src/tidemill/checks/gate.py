"""Combines the findings on a candidate into one verdict."""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from tidemill.core.check import Outcome, Verdict

# From the least to the most serious: the most serious finding is the verdict's outcome.
_BY_WEIGHT: tuple[Outcome, ...] = ("warn", "undecided", "fail")
# Findings that a canary decides, where the test rows do not.
_BY_TRAFFIC = ("baseline", "champion")


class Finding(Struct, frozen=True, kw_only=True):
    """The result of one check: its subject, its outcome and the reason; `evidence` are its numbers."""

    about: str
    outcome: Outcome = "pass"
    reason: str
    evidence: dict[str, Any] = {}


def combine_findings(
    subject: str, findings: Sequence[Finding], *, check: str = "gate", reference: str = "", has_canary: bool = True
) -> Verdict:
    """Return one verdict on all findings, with every reason: it stops if a finding fails; a warning proceeds.

    If a finding is undecided because of too few rows, the action is to collect more rows, and nothing is released. A
    comparison of losses proceeds where a canary will decide between the candidate and a champion (`has_canary`).

    If all findings pass, the reason is that of the last finding: put the most important finding there.
    """
    worst: Outcome = "pass"
    for outcome in _BY_WEIGHT:
        worst = outcome if any(finding.outcome == outcome for finding in findings) else worst
    shown = [finding for finding in findings if finding.outcome == worst] if worst != "pass" else [findings[-1]]
    undecided = [finding for finding in findings if finding.outcome == "undecided"]
    collects = any(not (has_canary and finding.about in _BY_TRAFFIC) for finding in undecided)
    evidence: dict[str, Any] = {}
    for finding in findings:
        evidence |= finding.evidence
    listed = [{"about": finding.about, "outcome": finding.outcome, "reason": finding.reason} for finding in findings]
    return Verdict(
        check=check,
        subject=subject,
        reference=reference,
        outcome=worst,
        action="stop" if worst == "fail" else "collect" if collects else "proceed",
        reason="; ".join(dict.fromkeys(finding.reason for finding in shown)),
        evidence=evidence | {"findings": listed},
    )
