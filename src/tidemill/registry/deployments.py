"""Deployments: which build each environment runs, and what the rules of promotion need to know about it."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Final, Literal

from msgspec import to_builtins
from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.audit import AuditEntry
from tidemill.core.build import Build
from tidemill.core.deployment import Deployment, DeploymentChange
from tidemill.core.environment import CONTROL
from tidemill.core.event import DeploymentPayload
from tidemill.core.resources import Books, BooksReader
from tidemill.core.trigger import Job
from tidemill.errors import Conflict, InputError, NotFound
from tidemill.ledger.events import record_event
from tidemill.registry.retrying import retry_overtaken

DeploymentAction = Literal[
    "approved build", "overrode", "requested build", "promoted build", "moved build", "rolled back to build"
]
APPROVED: Final = "approved build"
DEPLOYED: Final = "deployed"
OVERRODE: Final = "overrode"
_ACTIONS: Final[dict[DeploymentChange, DeploymentAction]] = {
    "rollback": "rolled back to build",
    "restore": "rolled back to build",
    "move": "moved build",
}
_IN_FORCE = ("waiting", "starting", "healthy")


def find_build(books: BooksReader, name: str) -> Build:
    """Return a build by its number, its commit (or the beginning of it), or its id; of several, the newest.

    Raises
    ------
    NotFound
        if there is none.
    """
    builds = sorted(books.builds.find(), key=lambda build: build.number)
    plain = name.rpartition("@")[2].partition(" ")[0]
    by_number = [build for build in builds if plain.isdigit() and len(plain) < 7 and build.number == int(plain)]
    by_commit = [build for build in builds if len(plain) >= 7 and build.commit.startswith(plain.lower())]
    found = by_number or by_commit or [build for build in builds if build.id == name]
    if not found:
        known = (
            ", ".join(build.label for build in builds[-5:]) or "none; push to a watched branch, or `tidemill ci run`"
        )
        raise NotFound(f"there is no build {name!r}", f"the newest are: {known}")
    passed = [build for build in found if build.state == "passed"]
    return (passed or found)[-1]


def find_healthy(books: BooksReader, environment: str) -> Deployment | None:
    """Return the deployment that serves an environment; None if there is none."""
    deployments = list_deployments(books, environment)
    return next((deployment for deployment in reversed(deployments) if deployment.state == "healthy"), None)


def list_deployments(books: BooksReader, environment: str) -> list[Deployment]:
    """Return the deployments of an environment, oldest first."""
    return sorted(books.deployments.find(environment=environment), key=lambda deployment: deployment.version)


def add_deployment(
    books: Books,
    clock: Clock,
    build: Build,
    environment: str,
    *,
    change: DeploymentChange,
    by: str,
    reason: str = "",
    verdicts: tuple[str, ...] = (),
    target: str = "local",
    run: str = "",
) -> Deployment:
    """Add the next deployment of an environment, in the state `waiting`, and return it.

    A repeated call of the same `run` returns the deployment that the first call added.

    Raises
    ------
    Conflict
        if another deployment of the environment is on its way.
    """

    def add() -> Deployment:
        with books.transaction(durable=True):
            before = list_deployments(books, environment)
            for earlier in before:
                if run and earlier.run == run:
                    return earlier
                if earlier.state in ("waiting", "starting"):
                    raise Conflict(
                        f"deployment {earlier.version} of {environment} is on its way",
                        f"wait for it, or resume or cancel its run: `tidemill runs show {earlier.run[:18]}`",
                    )
            serving = find_healthy(books, environment)
            return books.deployments.add(
                Deployment(
                    id=clock.mint(),
                    environment=environment,
                    version=before[-1].version + 1 if before else 1,
                    build=build.id,
                    change=change if serving is not None or change in ("rollback", "restore") else "first",
                    state="waiting",
                    time=clock.now(),
                    by=by,
                    reason=reason,
                    run=run,
                    verdicts=verdicts,
                    previous=serving.id if serving else "",
                    target=target,
                )
            )

    return retry_overtaken(add)


def mark_starting(books: Books, deployment: Deployment) -> Deployment:
    """Record that the processes of a deployment start."""
    return books.deployments.change(
        deployment.id, lambda now: replace(now, state="starting") if now.state == "waiting" else now
    )


def mark_healthy(books: Books, clock: Clock, deployment: Deployment, address: str, verdict: str = "") -> Deployment:
    """Record that a deployment serves its environment, by a verdict; the one before it is replaced at the same time."""
    with books.transaction(durable=True):
        for earlier in list_deployments(books, deployment.environment):
            if earlier.id != deployment.id and earlier.state in _IN_FORCE:
                books.deployments.change(earlier.id, lambda now: replace(now, state="replaced", ended=clock.now()))
        return books.deployments.change(
            deployment.id,
            lambda now: replace(
                now,
                state="healthy",
                address=address,
                healthy=now.healthy or clock.now(),
                verdicts=tuple(dict.fromkeys((*now.verdicts, verdict) if verdict else now.verdicts)),
            ),
        )


def record_success(
    books: Books, clock: Clock, deployment: Deployment, build: Build, address: str, verdict: str
) -> Deployment:
    """Record that a deployment serves its environment, also in the audit log; a repeated call writes nothing there."""
    with books.transaction(durable=True):
        if books.deployments.get(deployment.id).state != "healthy":
            write_decision(
                books,
                clock,
                _ACTIONS.get(deployment.change, "promoted build"),
                build,
                deployment.environment,
                actor=deployment.by,
                reason=deployment.reason or deployment.change,
                detail={"deployment": deployment.id},
            )
        return mark_healthy(books, clock, deployment, address, verdict)


def mark_failed(books: Books, clock: Clock, deployment: Deployment, problem: str) -> Deployment:
    """Record that a deployment failed; the one before it stays in force."""
    return books.deployments.change(
        deployment.id, lambda now: replace(now, state="failed", problem=problem, ended=clock.now())
    )


def mark_stopped(books: Books, clock: Clock, environment: str) -> Deployment | None:
    """Record that an environment runs nothing any more; return the deployment that served it."""
    serving = find_healthy(books, environment)
    if serving is None:
        return None
    return books.deployments.change(serving.id, lambda now: replace(now, state="stopped", ended=clock.now()))


def announce(
    books: Books, clock: Clock, deployment: Deployment, build: Build, address: str, *, environment: str
) -> None:
    """Emit the event that a build serves an environment; a repeated call emits nothing."""
    payload = DeploymentPayload(build=build.id, number=build.number, commit=build.commit, address=address)
    with suppress(Conflict):
        record_event(
            books,
            clock,
            DEPLOYED,
            deployment.environment,
            environment=environment,
            key=f"{DEPLOYED}/{deployment.id}",
            cause=deployment.run,
            payload=to_builtins(payload),
        )


def write_decision(
    books: Books,
    clock: Clock,
    action: DeploymentAction,
    build: Build,
    environment: str,
    *,
    actor: str,
    reason: str,
    detail: Mapping[str, str] | None = None,
) -> AuditEntry:
    """Write a decision of a person, or of the policy, about a build and an environment to the audit log.

    Raises
    ------
    InputError
        if it has no reason.
    """
    return books.audit.add(
        AuditEntry(
            id=clock.mint(),
            actor=actor,
            action=action,
            subject=build.subject(environment),
            time=clock.now(),
            reason=reason,
            environment=environment,
            detail={"commit": build.commit, "wheel": build.artifacts.get("wheel", ""), "image": build.image}
            | dict(detail or {}),
        )
    )


def approve(books: Books, clock: Clock, build: Build, environment: str, *, actor: str, reason: str) -> AuditEntry:
    """Approve a passed build for an environment.

    Raises
    ------
    InputError
        if the build has not passed CI.
    """
    if build.state != "passed":
        raise InputError(
            f"{build.label} has not passed CI: {build.state}", "approve a passed build: `tidemill ci list`"
        )
    return write_decision(books, clock, APPROVED, build, environment, actor=actor, reason=reason)


def request_promotion(books: Books, clock: Clock, build: Build, environment: str, *, actor: str, reason: str) -> Job:
    """Create the job that deploys a build as a decision of a person, in the environment that deploys."""
    identifier = clock.mint()
    params = {"environment": environment, "build": build.id, "by": actor, "reason": reason, "change": "promote"}
    write_decision(books, clock, "requested build", build, environment, actor=actor, reason=reason)
    return books.jobs.add(
        Job(
            id=identifier,
            trigger="hand",
            dedupe_key=f"promote/{identifier}",
            pipeline="deployment",
            environment=CONTROL,
            state="waiting",
            created=clock.now(),
            available=clock.now(),
            params=params,
        )
    )


def find_previous(books: BooksReader, environment: str) -> Build:
    """Return the build that the environment ran before the present one, for a rollback.

    A build that was rolled back is not brought back by another rollback, which goes one further back.

    Raises
    ------
    NotFound
        if there is none.
    """
    builds: list[str] = []
    for deployment in list_deployments(books, environment):
        if deployment.healthy is None:
            continue
        if deployment.change in ("rollback", "restore") and deployment.build in builds:
            del builds[builds.index(deployment.build) + 1 :]
        else:
            builds = [build for build in builds if build != deployment.build] + [deployment.build]
    if find_healthy(books, environment) is not None:
        builds = builds[:-1]
    if not builds:
        raise NotFound(
            f"there is no build before the one that {environment} runs",
            f"promote a build: `tidemill deploy promote BUILD --to {environment} --reason …`",
        )
    return books.builds.get(builds[-1])
