"""Deploying: a build goes to an environment, if the rules allow it and its service is healthy, correct and fast."""

from datetime import datetime

import msgspec
from msgspec import Struct

from tidemill.checks.gate import Finding, combine_findings
from tidemill.checks.infrastructure import (
    INFRASTRUCTURE,
    SERVICE,
    LoadResult,
    check_answers,
    check_load,
    check_machine,
)
from tidemill.checks.promotion import judge_promotion
from tidemill.clock import Clock
from tidemill.core.audit import POLICY
from tidemill.core.build import Build
from tidemill.core.check import Verdict
from tidemill.core.context import Context
from tidemill.core.deployment import DeploymentChange
from tidemill.core.environment import Load
from tidemill.core.fleet import Fleet
from tidemill.core.pipeline import pipeline, step
from tidemill.core.resources import Books, BooksReader, Packages
from tidemill.core.route import Route
from tidemill.delivery.automation import check_restore
from tidemill.delivery.http_client import measure_load
from tidemill.delivery.promotions import Deployable, collect_case
from tidemill.errors import InputError, TidemillError
from tidemill.faults import maybe_crash
from tidemill.recipes.answers import ask_service, list_routes_in_force, read_sample_rows
from tidemill.registry.deployments import (
    add_deployment,
    announce,
    find_build,
    list_deployments,
    mark_failed,
    mark_starting,
    record_success,
)


class DeploymentOrder(Struct, frozen=True, kw_only=True):
    """Where a build goes, how it came about, who ordered it, and why."""

    environment: str
    change: DeploymentChange = "push"
    by: str = ""
    reason: str = ""
    failed_at: datetime | None = None


@step
def choose_build(build: str, books: BooksReader) -> Build:
    """Return the build with this number, commit or id."""
    if not build:
        raise InputError("no build is named", "name one by its number: `tidemill deploy promote 12 --to production`")
    return find_build(books, build)


@step
def judge(build: Build, order: DeploymentOrder, now: datetime, books: BooksReader, fleet: Fleet) -> Verdict:
    """Return whether the rules of the environment allow the build; a rollback needs no approval, run or soak."""
    subject = Deployable(build, order.environment, fleet.settings(order.environment), fleet.people)
    case = collect_case(books, subject, now, order.by, verify=True)
    rules = [] if order.failed_at is None else check_restore(books, order.environment, order.failed_at, now)
    is_rollback = order.change in ("rollback", "restore")
    return judge_promotion(case, is_rollback=is_rollback, is_move=order.change == "move", more=rules)


@step
def check_environment(build: Build, order: DeploymentOrder, promotion: Verdict, fleet: Fleet) -> Verdict:
    """Make the environment of the build on its target, and check its packages, memory and accelerator."""
    needed, facts = fleet.prepare(build, order.environment)
    findings = check_machine(needed, fleet.settings(order.environment), facts)
    return combine_findings(promotion.subject, findings, check=INFRASTRUCTURE, reference=order.environment)


@step
def start_service(
    build: Build,
    order: DeploymentOrder,
    promotion: Verdict,
    infrastructure: Verdict,
    books: Books,
    fleet: Fleet,
    packages: Packages,
    clock: Clock,
    context: Context,
) -> Verdict:
    """Start the service of the build beside the present one, and check its answers and its speed.

    A service that does not become healthy, that predicts otherwise than before, or that is too slow, is stopped. One
    that passed before in this run and is public is not tested again: its users must not lose it by a second test.
    """
    settings = fleet.settings(order.environment)
    deployment = add_deployment(
        books,
        clock,
        build,
        order.environment,
        change=order.change,
        by=order.by or POLICY,
        reason=order.reason,
        verdicts=(promotion.id, infrastructure.id),
        target=settings.target,
        run=context.run,
    )
    was_checked = any(not verdict.stops for verdict in books.verdicts.find(check=SERVICE, run=context.run))
    if was_checked and fleet.find_public_address(deployment, build):
        passed = Finding(about="health", reason=f"{build.label} serves {order.environment}: it was checked before")
        return combine_findings(promotion.subject, [passed], check=SERVICE, reference=order.environment)
    mark_starting(books, deployment)
    maybe_crash("deployment is starting")
    findings: list[Finding] = []
    routes = list_routes_in_force(books, order.environment)  # a service reads later ones some time after it started
    try:
        address = fleet.start(deployment, build)
        maybe_crash("deployment is ready")
        findings += check_answers([ask_service(address, route, packages) for route in routes])
        if settings.load.rate:
            result = _measure(address, settings.load, routes, packages)
            findings += check_load(settings.load, result)
        findings.append(Finding(about="health", reason=f"{build.label} is healthy in {order.environment}"))
    except TidemillError as failure:
        findings.append(Finding(about="health", outcome="fail", reason=failure.problem))
    verdict = combine_findings(promotion.subject, findings, check=SERVICE, reference=order.environment)
    if verdict.stops:
        fleet.stop(order.environment, deployment.id)
        mark_failed(books, clock, deployment, verdict.reason)
    maybe_crash("deployment is judged")
    return verdict


def _measure(address: str, load: Load, routes: list[Route], packages: Packages) -> LoadResult:
    """Measure the service with a sample row of its first model; without a model, its health."""
    for route in routes:
        champion = route.arm("champion")
        rows = read_sample_rows(packages.load(champion.package)) if champion else []
        if rows:
            body = msgspec.json.encode({"rows": rows[:1]})
            return measure_load(address, f"/predict/{route.model}", body, load.rate, load.seconds)
    return measure_load(address, "/health", None, load.rate, load.seconds)


@step
def publish_service(
    build: Build, order: DeploymentOrder, service: Verdict, books: Books, fleet: Fleet, clock: Clock, context: Context
) -> str:
    """Give the requests of the environment to the new service, then stop the one before it; return the address.

    If the new service does not answer on the public address, it is stopped, and the one before it continues.
    """
    deployment = next(other for other in list_deployments(books, order.environment) if other.run == context.run)
    try:
        address = fleet.publish(deployment, build)
    except TidemillError as failure:
        fleet.stop(order.environment, deployment.id)
        mark_failed(books, clock, deployment, failure.problem)
        raise
    maybe_crash("deployment is public")
    record_success(books, clock, deployment, build, address, service.id)
    maybe_crash("deployment is recorded")
    for earlier in fleet.list_running(order.environment):
        if earlier != deployment.id:
            fleet.stop(order.environment, earlier)
    announce(books, clock, deployment, build, address, environment=context.environment)
    return address


@pipeline
def deployment(
    environment: str,
    build: str,
    now: datetime,
    by: str = "",
    reason: str = "",
    change: DeploymentChange = "push",
    failed_at: datetime | None = None,
) -> None:
    """Deploy a build to an environment: rules, environment, service, answers, speed, then the requests."""
    order = DeploymentOrder(environment=environment, change=change, by=by, reason=reason, failed_at=failed_at)
    chosen = choose_build(build)
    promotion = judge(chosen, order, now)
    infrastructure = check_environment(chosen, order, promotion)
    service = start_service(chosen, order, promotion, infrastructure)
    publish_service(chosen, order, service)
