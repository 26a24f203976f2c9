"""Automation: the builds that the policy deploys by itself, and when it brings the build before back."""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from msgspec import Struct

from tidemill.checks.gate import Finding
from tidemill.checks.promotion import judge_promotion, matches_branch
from tidemill.core.build import Build
from tidemill.core.check import Verdict
from tidemill.core.deployment import EnvironmentStatus
from tidemill.core.environment import Environment
from tidemill.core.policy import Policy
from tidemill.core.resources import BooksReader
from tidemill.delivery.promotions import Deployable, collect_case
from tidemill.registry.deployments import find_healthy, list_deployments
from tidemill.registry.pauses import find_pause, format_pause

_STALE = timedelta(minutes=20)


class Candidate(Struct, frozen=True):
    """A build that an environment takes automatically, and what its rules say now."""

    environment: str
    build: Build
    verdict: Verdict


def list_candidates(books: BooksReader, policy: Policy, now: datetime) -> Iterator[Candidate]:
    """Yield the newest passed build of the branch of each environment, unless it was deployed there before.

    A build that failed there, or that was rolled back, is deployed again by a person only. While a deployment is on its
    way, its environment takes nothing.
    """
    passed = sorted(books.builds.find(state="passed"), key=lambda build: build.number, reverse=True)
    for name, settings in policy.environments.items():
        build = next((build for build in passed if matches_branch(settings.branch, build.branch)), None)
        if not settings.branch or build is None or not _is_free(books, name, build):
            continue
        case = collect_case(books, Deployable(build, name, settings, policy.people), now)
        yield Candidate(name, build, judge_promotion(case))


def _is_free(books: BooksReader, environment: str, build: Build) -> bool:
    deployments = list_deployments(books, environment)
    return not any(other.build == build.id or other.state in ("waiting", "starting") for other in deployments)


def check_restore(books: BooksReader, environment: str, failed_at: datetime, now: datetime) -> list[Finding]:
    """Check whether Tidemill can bring back the build that an environment ran before the one that fails.

    A rollback is never rolled back, an old failure triggers nothing, and nothing else can be on its way.
    """
    serving = find_healthy(books, environment)
    findings = []
    if serving is not None and serving.change in ("rollback", "restore"):
        findings.append(_fail("rollback", f"{environment} runs a build that was brought back already"))
    if now - failed_at > _STALE:
        findings.append(_fail("age", f"the failure is older than {_STALE.total_seconds() / 60:.0f} minutes"))
    on_its_way = [other for other in list_deployments(books, environment) if other.state in ("waiting", "starting")]
    if on_its_way:
        findings.append(_fail("order", f"deployment {on_its_way[0].version} of {environment} is on its way"))
    pause = find_pause(books, "environment", environment, environment=environment, now=now)
    if pause is not None:
        findings.append(_fail("paused", f"automation is paused in {environment}: {format_pause(pause)}"))
    return findings


def _fail(about: str, reason: str) -> Finding:
    return Finding(about=about, outcome="fail", reason=reason)


def describe_status(books: BooksReader, policy: Policy, now: datetime) -> list[EnvironmentStatus]:
    """Return the status of each environment, in the order in which builds pass them."""
    passed = sorted(books.builds.find(state="passed"), key=lambda build: build.number, reverse=True)
    rows = []
    for name, settings in order_environments(policy).items():
        serving = find_healthy(books, name)
        build = books.builds.get(serving.build) if serving else None
        matching = (new for new in passed if not settings.branch or matches_branch(settings.branch, new.branch))
        newest = next(matching, None)
        is_next = newest is not None and (build is None or newest.number > build.number)
        missing = ""
        if newest is not None and is_next:
            case = collect_case(books, Deployable(newest, name, settings, policy.people), now)
            verdict = judge_promotion(case)
            missing = verdict.reason if verdict.stops else ""
        rows.append(
            EnvironmentStatus(
                environment=name,
                serving=build.label if build else "nothing",
                since=serving.healthy if serving else None,
                address=serving.address if serving else "",
                next_build=newest.label if newest is not None and is_next else "",
                next_number=newest.number if newest is not None and is_next else 0,
                missing=missing,
            )
        )
    return rows


def order_environments(policy: Policy) -> Mapping[str, Environment]:
    """Return the environments of a policy in the order in which builds pass them."""
    ordered: dict[str, Environment] = {}
    waiting = dict(policy.environments)
    while waiting:
        name = next((name for name, settings in waiting.items() if settings.after not in waiting), next(iter(waiting)))
        ordered[name] = waiting.pop(name)
    return ordered
