"""Judgements: the results of the parts of a CI run, which its last step stores as verdicts."""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from tidemill.core.build import BuildState
from tidemill.core.check import Action, Outcome, Verdict
from tidemill.delivery.checkout import Checkout
from tidemill.delivery.environment import BuildEnvironment


class Judgement(Struct, frozen=True, kw_only=True):
    """The result of a check of CI; `undecided` means that the commit could not be judged.

    It is no verdict yet: a verdict that stops the run would also stop the step that records the build.
    """

    check: str
    outcome: Outcome
    reason: str
    evidence: dict[str, Any] = {}

    def to_verdict(self, subject: str) -> Verdict:
        """Return the verdict on a commit."""
        action: Action = "stop" if self.outcome in ("fail", "undecided") else "proceed"
        return Verdict(
            check=self.check,
            subject=subject,
            outcome=self.outcome,
            action=action,
            reason=self.reason,
            evidence=self.evidence,
        )


def judge_checkout(checkout: Checkout, environment: BuildEnvironment) -> list[Judgement]:
    """Judge whether the commit could be fetched, its policy is right, and its lock can be installed."""
    if checkout.problem:
        return [Judgement(check="ci_project", outcome="undecided", reason=checkout.problem)]
    if checkout.fault:
        return [Judgement(check="ci_project", outcome="fail", reason=checkout.fault)]
    if environment.problem:
        return [Judgement(check="ci_environment", outcome="undecided", reason=environment.problem)]
    how = "found" if environment.reused else "made"
    reason = f"Python {environment.python} with {len(environment.packages)} packages ({how})"
    evidence = {"python": environment.python, "packages": len(environment.packages), "key": environment.key}
    judged = [Judgement(check="ci_environment", outcome="pass", reason=reason, evidence=evidence)]
    if checkout.skipped:
        listed = ", ".join(checkout.skipped[:5])
        reason = f"not part of a build are links, submodules, and files whose names are no text: {listed}"
        judged.append(Judgement(check="ci_project", outcome="warn", reason=reason))
    return judged


def decide_state(judgements: Iterable[Judgement]) -> tuple[BuildState, str]:
    """Return the state of a build and its reason: refused if a check failed, error if one could not judge.

    >>> decide_state([Judgement(check="ci_tests", outcome="fail", reason="1 of 9 tests failed")])
    ('refused', 'ci_tests: 1 of 9 tests failed')
    """
    stored = list(judgements)
    for outcome, state in (("fail", "refused"), ("undecided", "error")):
        found = [f"{judgement.check}: {judgement.reason}" for judgement in stored if judgement.outcome == outcome]
        if found:
            return state, "; ".join(found)  # type: ignore[return-value]  # one of the two states
    warnings = [f"{judgement.check}: {judgement.reason}" for judgement in stored if judgement.outcome == "warn"]
    return "passed", "; ".join(warnings)
