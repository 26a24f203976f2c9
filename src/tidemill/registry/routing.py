"""Routing: the arms of a model; a change adds a route version, and of two changes at once only one succeeds."""

from collections.abc import Mapping
from typing import Any

from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.audit import POLICY
from tidemill.core.check import TrafficEvidence, Verdict
from tidemill.core.release import Release
from tidemill.core.resources import Board, Books, BooksReader
from tidemill.core.route import Arm, Role, Route, RouteChange
from tidemill.errors import Overtaken
from tidemill.faults import maybe_crash
from tidemill.ledger.decisions import Decision, record_decision
from tidemill.registry.publication import publish_route
from tidemill.registry.route_decisions import describe_change, name_records


def find_current_route(books: BooksReader, environment: str, model: str) -> Route | None:
    """Return the current route: the highest version, because ids of the same time have no order."""
    return max(books.routes.find(environment=environment, model=model), key=lambda route: route.version, default=None)


def make_arm(release: Release, role: Role, share: float, value: str = "") -> Arm:
    """Return an arm for a release; a bound one has the value of the key whose rows it serves."""
    return Arm(
        release=release.label,
        version=release.version,
        package=release.package,
        role=role,
        share=share,
        value=value,
        signature=release.signature,
    )


def change_route(
    books: Books,
    board: Board,
    clock: Clock,
    *,
    before: Route | None,
    environment: str,
    model: str,
    arms: tuple[Arm, ...],
    kind: RouteChange,
    reason: str,
    by: str = POLICY,
    verdict: str = "",
    back: bool = False,
    key: str = "",
    decision: Decision | None = None,
    detail: Mapping[str, Any] | None = None,
) -> Route:
    """Write a route with new arms and publish it; `before` is the current route that the caller has read.

    The audit log gets an entry in the same transaction: the `decision` of the person who changes it, or else that of
    the policy, with `detail` as its facts.

    Raises
    ------
    Overtaken
        if another process has changed the route since.
    TidemillError
        if the route is in the ledger, but the board does not have it.
    """
    route = Route(
        id=clock.mint(),
        environment=environment,
        model=model,
        version=before.version + 1 if before else 1,
        arms=tuple(_add_signature(books, arm) for arm in arms),
        since=clock.now(),
        reason=reason,
        change=kind,
        by=by,
        verdict=verdict,
        previous=before.id if before else "",
        back=back,
        key=key,
    )
    try:
        with books.transaction(durable=True):
            books.routes.add(route)
            made = decision or describe_change(books, route, before, detail or {})
            made = replace(made, detail=made.detail | name_records(route))
            record_decision(books, clock, made, actor=by, environment=environment)
    except Overtaken:
        problem = f"another process has changed the route of {model} meanwhile"
        raise Overtaken(problem, "check the current route and try again: `tidemill models history`") from None
    maybe_crash("route is written")
    publish_route(books, board, route)
    maybe_crash("route is published")
    return route


def set_share(arm: Arm, share: float, role: Role | None = None) -> Arm:
    """Return the arm with another share, and with another role if `role` is set."""
    return replace(arm, share=share, role=role or arm.role)


def split_requests(champion: Arm, challenger: Arm, *, on_all_rows: bool = False) -> tuple[Arm, ...]:
    """Return the arms of a canary, in which the challenger has its share and the champion serves the others.

    The challenger also shadows the champion, so that both are compared on the same rows; with `on_all_rows` the
    champion shadows the challenger too, so that what is compared does not depend on the share.
    """
    shadows = (challenger, champion) if on_all_rows else (challenger,)
    return (
        set_share(champion, 1 - challenger.share),
        challenger,
        *(set_share(arm, 0.0, "shadow") for arm in shadows),
    )


def follow_canary_verdict(
    route: Route, challenger: Arm, verdict: Verdict
) -> tuple[RouteChange, tuple[Arm, ...], str] | None:
    """Return the kind, the arms and the reason of the change that a verdict on a challenger requires; None if none."""
    champion = route.arm("champion")
    if verdict.action == "promote":
        return "promote", (set_share(challenger, 1.0, "champion"),), f"promoted: {verdict.reason}"
    if champion is None:
        return None
    if verdict.action == "rollback":
        return "rollback", (set_share(champion, 1.0),), f"rolled back: {verdict.reason}"
    if verdict.action == "step":
        share = verdict.read(TrafficEvidence).share
        if share == challenger.share:  # a run that was killed after the change is repeated
            return None
        return "step", split_requests(champion, set_share(challenger, share), on_all_rows=True), verdict.reason
    return None


def list_routes(books: BooksReader, environment: str, model: str) -> list[Route]:
    """Return all routes of a model, oldest first."""
    return sorted(books.routes.find(environment=environment, model=model), key=lambda route: route.version)


def _add_signature(books: BooksReader, arm: Arm) -> Arm:
    """Return the arm with the signature of its release, which can be signed after an earlier route named it."""
    if arm.signature:
        return arm
    releases = books.releases.find(package=arm.package, limit=1)
    signed = next((release for release in releases if release.label == arm.release), None)
    return replace(arm, signature=signed.signature) if signed is not None else arm
