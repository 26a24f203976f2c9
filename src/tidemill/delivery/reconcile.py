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

Mend = Literal["", "start", "stop"]


class ObservedFleet(Fleet, Protocol):
    """A fleet that also shows what runs of a deployment."""

    def observe(self, deployment: Deployment, build: Build) -> Observation:
        """Return what runs of a deployment now."""
        ...


class Difference(Struct, frozen=True, kw_only=True):
    """What an environment should run (`declared`) and what runs (`actual`), and the action that makes them equal."""

    environment: str
    declared: str
    actual: str
    deployment: str = ""
    action: Mend = ""


def compare(books: BooksReader, fleet: ObservedFleet, environments: Iterable[str]) -> list[Difference]:
    """Return what each environment should run and what runs, and what else runs there."""
    return [difference for name in environments for difference in _compare_environment(books, fleet, name)]


def _compare_environment(books: BooksReader, fleet: ObservedFleet, environment: str) -> Iterator[Difference]:
    serving = find_healthy(books, environment)
    by_id = {deployment.id: deployment for deployment in list_deployments(books, environment)}
    if serving is None:
        yield Difference(environment=environment, declared="nothing", actual="nothing")
    else:
        build = books.builds.get(serving.build)
        seen = fleet.observe(serving, build)
        is_right = seen.state == "public"
        wrong = f"{build.label} is {seen.state} {seen.problem}".strip()
        yield Difference(
            environment=environment,
            declared=f"{build.label} at {serving.address}",
            actual=f"{build.label} at {seen.public}" if is_right else wrong,
            deployment=serving.id,
            action="" if is_right else "start",
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
    """Carry out the action of a difference; return what was done.

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
