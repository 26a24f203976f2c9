"""Checks whether a build can be deployed to an environment: the rules of its policy, each as a finding."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import get_args

from msgspec import Struct
from msgspec.structs import replace

from tidemill.checks.comparison import check_metric_thresholds
from tidemill.checks.gate import Finding, combine_findings
from tidemill.checks.registry import deployment_finding
from tidemill.clock import parse_duration
from tidemill.core.build import Build
from tidemill.core.check import Verdict
from tidemill.core.environment import Environment, PromotionRule
from tidemill.project.freeze import find_freeze

PROMOTION = "promotion"
PROMOTION_FINDINGS = tuple(
    deployment_finding(name, about, PROMOTION)
    for name, about in (
        ("build", "the result of its CI with passed"),
        ("branch", "its branch with that of the environment"),
        ("approvals", "the people who approved it, without its authors, with the number that is needed"),
        ("runs", "its successful runs in the environment before with the number that is needed"),
        ("soak", "the time that it has been healthy in the environment before with the time that is needed"),
        ("thresholds", "the metrics of its newest run in the environment before with their limits"),
        ("data", "the newest batch of each source in the environment before with its schema"),
        ("freeze", "the time with the freeze windows"),
        ("paused", "the environment with one in which automation is not paused"),
        ("audit", "the entries of the audit log with their chain of hashes"),
        ("rollback", "the present build with one that was not brought back itself"),
        ("age", "the age of the failure with 20 minutes"),
        ("order", "the deployments of the environment with none on its way"),
        ("promotion", "all of these rules"),
    )
)


class Approval(Struct, frozen=True, kw_only=True):
    """A person approved a build for an environment."""

    actor: str
    time: datetime


class Override(Struct, frozen=True, kw_only=True):
    """A person lifted one rule for a build in an environment, until a time."""

    actor: str
    rule: PromotionRule
    until: datetime
    reason: str


class PromotionCase(Struct, frozen=True, kw_only=True):
    """What the rules need to know about a build and an environment.

    Attributes
    ----------
    build
        The build.
    environment
        The name of the environment.
    settings
        Its settings.
    now
        The time.
    by
        The person who promotes it; empty if Tidemill does.
    authors
        The authors of the commits since the build that the environment runs now, and who pushed them.
    people
        The other names of each person, from `[people]`.
    approvals
        The approvals of this build for this environment.
    overrides
        The overrides for this build and this environment.
    healthy_since
        When the build became healthy in the environment `after`; None if it is not, or is not deployed there any more.
    successful_runs
        How many runs of the pipeline succeeded there, of this build.
    failed_runs
        How many failed there.
    metrics
        The metrics on test rows of the newest of the successful runs; empty if there is none.
    stopped
        The newest batch of each source there, with the reason, if it was stopped.
    paused
        Why automation is paused in the environment; empty if it is not.
    tampered
        The first fault of the audit log, which has the approvals; empty if it is intact, or was not verified.
    """

    build: Build
    environment: str
    settings: Environment
    now: datetime
    by: str = ""
    authors: frozenset[str] = frozenset()
    people: Mapping[str, tuple[str, ...]] = {}
    approvals: tuple[Approval, ...] = ()
    overrides: tuple[Override, ...] = ()
    healthy_since: datetime | None = None
    successful_runs: int = 0
    failed_runs: int = 0
    metrics: Mapping[str, float] = {}
    stopped: Mapping[str, str] = {}
    paused: str = ""
    tampered: str = ""


def judge_promotion(
    case: PromotionCase, *, is_rollback: bool = False, is_move: bool = False, more: Sequence[Finding] = ()
) -> Verdict:
    """Return whether the build can be deployed to the environment, with each rule that it does not meet.

    A rollback by a person brings back a build that met the rules before: only its CI result counts. A move gives other
    settings to a build that serves there already: only its CI result, freeze windows and pauses count. `more` are
    findings of further rules.
    """
    if is_move:
        findings = [*_check_build(case), *_check_freeze(case), *_check_paused(case)]
    else:
        findings = _check_build(case) if is_rollback else _check_rules(case)
    findings = [_apply_overrides(case, finding) for finding in findings]
    findings += more
    if not any(finding.outcome == "fail" for finding in findings):
        passed = f"{case.build.label} meets the rules of {case.environment}"
        findings.append(Finding(about="promotion", reason=passed))
    verdict = combine_findings(
        f"{case.build.label} → {case.environment}",
        findings,
        check=PROMOTION,
        reference=case.environment,
    )
    evidence = {
        "build": case.build.id,
        "commit": case.build.commit,
        "wheel": case.build.artifacts.get("wheel", ""),
        "image": case.build.image,
        "approved_by": list_approvers(case),
    }
    return replace(verdict, evidence=verdict.evidence | evidence)


def list_approvers(case: PromotionCase) -> list[str]:
    """Return the people whose approvals count, each once, in the order of their approvals."""
    return [actor for actor, reason in _judge_approvals(case).items() if not reason]


def explain_uncounted(case: PromotionCase, actor: str) -> str:
    """Return why the approval of an actor does not count; empty if it does."""
    return _judge_approvals(case).get(actor, "has not approved it")


def _judge_approvals(case: PromotionCase) -> dict[str, str]:
    """Return each person who approved, in the order of the approvals, with the reason why that does not count."""
    judged: dict[str, str] = {}
    counted: dict[frozenset[str], str] = {}
    authors = frozenset().union(*(_identities(author, case.people) for author in case.authors))
    allowed = frozenset().union(*(_identities(name, case.people) for name in case.settings.approvers))
    for approval in sorted(case.approvals, key=lambda approval: approval.time):
        names = _identities(approval.actor, case.people)
        same = next((other for known, other in counted.items() if names & known), "")
        if approval.actor in judged:
            continue
        if names & authors:
            judged[approval.actor] = "wrote or pushed it"
        elif case.settings.approvers and not names & allowed:
            judged[approval.actor] = f"is not one of its approvers: {', '.join(case.settings.approvers)}"
        elif same:
            judged[approval.actor] = f"is the same person as {same}"
        else:
            counted[names] = approval.actor
            judged[approval.actor] = ""
    return judged


def _check_rules(case: PromotionCase) -> list[Finding]:
    rules = (
        _check_build,
        _check_branch,
        _check_approvals,
        _check_runs,
        _check_soak,
        _check_thresholds,
        _check_data,
        _check_freeze,
        _check_paused,
        _check_audit,
    )
    return [finding for rule in rules for finding in rule(case)]


def _check_build(case: PromotionCase) -> list[Finding]:
    if case.build.state == "passed":
        return []
    why = f": {case.build.reason}" if case.build.reason else ""
    word = "was refused by CI" if case.build.state == "refused" else "could not be judged by CI"
    return [_fail("build", f"{case.build.label} {word}{why}")]


def _check_branch(case: PromotionCase) -> list[Finding]:
    if not case.settings.branch or matches_branch(case.settings.branch, case.build.branch):
        return []
    return [
        _fail(
            "branch",
            f"it was built from branch {case.build.branch!r}, and {case.environment} takes {case.settings.branch!r}",
        )
    ]


def matches_branch(pattern: str, branch: str) -> bool:
    """Return whether a branch matches a pattern, in which `*` matches any text.

    >>> matches_branch("dev/*", "dev/faster"), matches_branch("main", "maintenance")
    (True, False)
    """
    return fnmatchcase(branch, pattern)


def _check_approvals(case: PromotionCase) -> list[Finding]:
    needed, judged = case.settings.approvals, _judge_approvals(case)
    counted = [actor for actor, reason in judged.items() if not reason]
    if len(counted) >= needed:
        return []
    not_counted = [f"{actor} {reason}" for actor, reason in judged.items() if reason]
    return [
        _fail(
            "approvals",
            f"it has {len(counted)} of {needed} approvals of people who did not write it"
            + (f" ({'; '.join(not_counted)})" if not_counted else "")
            + f": `tidemill deploy approve {case.build.number} --to {case.environment} --reason …`",
            {"approvals": len(counted), "approvals_needed": needed},
        )
    ]


def _check_runs(case: PromotionCase) -> list[Finding]:
    needed, after = case.settings.runs, case.settings.after
    if not after or case.successful_runs >= needed:
        return []
    failed = f", {case.failed_runs} failed" if case.failed_runs else ""
    return [
        _fail(
            "runs",
            f"it has {case.successful_runs} of {needed} successful runs of {case.settings.pipeline} in {after}{failed}",
            {"runs": case.successful_runs, "runs_needed": needed, "runs_failed": case.failed_runs},
        )
    ]


def _check_soak(case: PromotionCase) -> list[Finding]:
    after, soak = case.settings.after, parse_duration(case.settings.soak)
    if not after:
        return []
    if case.healthy_since is None:
        return [_fail("soak", f"it is not healthy in {after}: deploy it there first")]
    elapsed = case.now - case.healthy_since
    if elapsed >= soak:
        return []
    return [
        _fail(
            "soak",
            f"it has been healthy in {after} for {_hours(elapsed)} of {case.settings.soak}",
            {"soak_seconds": max(0.0, elapsed.total_seconds()), "soak_needed_seconds": soak.total_seconds()},
        )
    ]


def _check_thresholds(case: PromotionCase) -> list[Finding]:
    settings = case.settings
    if not settings.thresholds or not settings.after:
        return []
    if not case.metrics:
        return [_fail("thresholds", f"no run of {settings.pipeline} in {settings.after} has metrics yet")]
    findings = check_metric_thresholds(case.metrics, settings.thresholds)
    return [
        _fail("thresholds", f"in {settings.after} {finding.reason}", finding.evidence)
        for finding in findings
        if finding.outcome != "pass"
    ]


def _check_data(case: PromotionCase) -> list[Finding]:
    if not case.settings.valid_data or not case.settings.after:
        return []
    return [
        _fail("data", f"in {case.settings.after} the newest batch of {batch} was stopped: {reason}")
        for batch, reason in case.stopped.items()
    ]


def _check_freeze(case: PromotionCase) -> list[Finding]:
    window = find_freeze(case.settings.freeze, case.settings.zone, case.now)
    if not window:
        return []
    return [_fail("freeze", f"nothing is deployed to {case.environment} in {window} ({case.settings.zone})")]


def _check_paused(case: PromotionCase) -> list[Finding]:
    if not case.paused or case.by:
        return []
    return [
        _fail(
            "paused",
            f"automation is paused in {case.environment}: {case.paused}; resume it: `tidemill deploy "
            f"resume {case.environment}`",
        )
    ]


def _check_audit(case: PromotionCase) -> list[Finding]:
    if not case.tampered:
        return []
    cure = "find out who changed it with `tidemill audit verify`, and restore a backup of the ledger"
    return [_fail("audit", f"the audit log, which has the approvals, was changed: {case.tampered}: {cure}")]


def _apply_overrides(case: PromotionCase, finding: Finding) -> Finding:
    """Turn a failed rule into a warning where a person has lifted it; an approval never does."""
    if finding.outcome != "fail" or finding.about not in get_args(PromotionRule):
        return finding
    for override in case.overrides:
        if override.rule == finding.about and override.until > case.now:
            reason = (
                f"{finding.reason}; overridden by {override.actor} until {override.until:%Y-%m-%d %H:%M}: "
                f"{override.reason}"
            )
            return replace(finding, outcome="warn", reason=reason)
    return finding


def _fail(about: str, reason: str, evidence: dict[str, object] | None = None) -> Finding:
    return Finding(about=about, outcome="fail", reason=reason, evidence=evidence or {})


def _hours(elapsed: timedelta) -> str:
    minutes = max(0, int(elapsed.total_seconds() // 60))
    return f"{minutes // 60} h {minutes % 60} min"


def _identities(name: str, people: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """Return all names of a person, in lower case; the part of an e-mail address before the @ is one of them."""
    names: Sequence[str] = [name]
    for person, others in people.items():
        known = {person.casefold(), *(other.casefold() for other in others)}
        if name.casefold() in known or _local_part(name) in known:
            names = [*names, person, *others]
    return frozenset(form for known in names for form in (known.casefold(), _local_part(known)))


def _local_part(name: str) -> str:
    """Return the part of an e-mail address before the @.

    >>> _local_part("Mai@example.org")
    'mai'
    """
    return name.casefold().partition("@")[0]
