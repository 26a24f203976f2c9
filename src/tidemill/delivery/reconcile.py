"""Reconciles the environments: what each should run, by the ledger, and what runs."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Literal, Protocol

from msgspec import Struct

from tidemill.clock import Clock
from tidemill.core.build import Build
from tidemill.core.deployment import Deployment
from tidemill.core.fleet import Fleet
from tidemill.core.resources import Books, BooksReader
from tidemill.delivery.target import Observation
from tidemill.errors import NotFound, TidemillError
from tidemill.registry.deployments import find_healthy, list_deployments, mark_failed, mark_healthy

Mend = Literal["", "start", "stop", "move"]
"""`move`: deploy the same build again, because the settings of its environment changed."""


class ObservedFleet(Fleet, Protocol):
    """A fleet that also shows what runs of a deployment."""

    def observe(self, deployment: Deployment, build: Build) -> Observation:
        """Return what runs of a deployment now."""
        ...

    def describe_changes(self, deployment: Deployment) -> str:
        """Return which settings of the environment differ from those that a deployment was started with."""
        ...


class Difference(Struct, frozen=True, kw_only=True):
    """What an environment should run (`declared`) and what runs (`actual`), and the action that makes them equal.

    `problem` is why what runs cannot be observed, or why a person must act.
    """

    environment: str
    declared: str
    actual: str
    deployment: str = ""
    action: Mend = ""
    problem: str = ""


def compare(books: BooksReader, fleet: ObservedFleet, environments: Iterable[str]) -> list[Difference]:
    """Return what each environment should run and what runs, and what else runs there.

    An environment that cannot be observed hides no other. One that is no longer in the policy is shown while it serves.
    """
    declared = list(environments)
    found: list[Difference] = []
    for name in declared:
        try:
            found += _compare_environment(books, fleet, name)
        except TidemillError as failure:
            found.append(Difference(environment=name, declared="", actual="unknown", problem=str(failure)))
    for name in sorted({deployment.environment for deployment in books.deployments.find(state="healthy")}):
        if name not in declared:
            problem = f"it is not in tidemill.toml any more: `tidemill deploy stop {name} --reason …`, or restore it"
            found.append(Difference(environment=name, declared="nothing", actual="a deployment", problem=problem))
    return found


def _compare_environment(books: BooksReader, fleet: ObservedFleet, environment: str) -> Iterator[Difference]:
    serving = find_healthy(books, environment)
    by_id = {deployment.id: deployment for deployment in list_deployments(books, environment)}
    if serving is None:
        yield Difference(environment=environment, declared="nothing", actual="nothing")
    else:
        build = books.builds.get(serving.build)
        seen = fleet.observe(serving, build)
        is_right = seen.state == "public"
        changes = fleet.describe_changes(serving)
        wrong = f"{build.label} is {seen.state} {seen.problem}".strip()
        yield Difference(
            environment=environment,
            declared=f"{build.label} at {serving.address}" + (f", with {changes}" if changes else ""),
            actual=f"{build.label} at {seen.public}" if is_right else wrong,
            deployment=serving.id,
            action="start" if not is_right else "move" if changes else "",
        )
    for identifier in fleet.list_running(environment):
        known = by_id.get(identifier)
        is_starting = known is not None and known.state in ("waiting", "starting") and _is_deploying(books, known)
        if (serving is None or identifier != serving.id) and not is_starting:
            yield Difference(
                environment=environment,
                declared="",
                actual=f"deployment {known.version if known else identifier} ({known.state if known else 'unknown'})",
                deployment=identifier,
                action="stop",
            )


def mend(books: Books, fleet: ObservedFleet, clock: Clock, difference: Difference) -> list[str]:
    """Start or stop what a difference says; return what was done. A move is a deployment, which the caller starts.

    Raises
    ------
    TidemillError
        if the deployment that should run does not become healthy.
    """
    environment = difference.environment
    if difference.action == "stop":
        fleet.stop(environment, difference.deployment)
        return [f"{environment}: stopped {difference.actual}"]
    if difference.action == "start":
        deployment = books.deployments.get(difference.deployment)
        build = books.builds.get(deployment.build)
        fleet.start(deployment, build)
        address = fleet.publish(deployment, build)
        mark_healthy(books, clock, deployment, address)
        return [f"{environment}: started {build.label} at {address}"]
    return []


def abandon(books: Books, fleet: Fleet, clock: Clock, environments: Iterable[str]) -> list[str]:
    """Fail the deployments whose run has ended without them, and stop their processes; return what was done."""
    done = []
    for environment in environments:
        for deployment in list_deployments(books, environment):
            if deployment.state in ("waiting", "starting") and not _is_deploying(books, deployment):
                with suppress(TidemillError):
                    fleet.stop(environment, deployment.id)
                mark_failed(books, clock, deployment, "its run ended before it was healthy")
                done.append(f"{environment}: deployment {deployment.version} failed: its run ended")
    return done


def _is_deploying(books: BooksReader, deployment: Deployment) -> bool:
    """Return whether the run of a deployment still goes on, or can be resumed."""
    try:
        return books.runs.get(deployment.run).state in ("running", "interrupted")
    except NotFound:
        return False
