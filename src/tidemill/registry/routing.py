"""Routing: the arms that serve a model, changed by adding a version; of two changes at once only one succeeds."""

from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.release import Release
from tidemill.core.resources import Board, Books, BooksReader
from tidemill.core.route import Arm, Role, Route, RouteChange
from tidemill.errors import Conflict
from tidemill.faults import maybe_crash


def current(books: BooksReader, environment: str, model: str) -> Route | None:
    """The route that is in force: that of the highest version, since ids of one moment are in no order."""
    return max(books.routes.find(environment=environment, model=model), key=lambda route: route.version, default=None)


def arm_of(release: Release, role: Role, share: float) -> Arm:
    """The arm of a release."""
    return Arm(release=release.label, version=release.version, package=release.package, role=role, share=share)


def change(
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
    by: str = "policy",
    verdict: str = "",
    back: bool = False,
) -> Route:
    """Put arms in force and publish them; `before` is the route in force on which that was decided.

    Raises
    ------
    Conflict
        if somebody else has changed the route since.
    """
    route = Route(
        id=clock.mint(),
        environment=environment,
        model=model,
        version=before.version + 1 if before else 1,
        arms=arms,
        since=clock.now(),
        reason=reason,
        change=kind,
        by=by,
        verdict=verdict,
        previous=before.id if before else "",
        back=back,
    )
    try:
        with books.transaction(durable=True):
            books.routes.add(route)
    except Conflict:
        problem = f"somebody else has changed the route of {model} meanwhile"
        raise Conflict(problem, "see what answers now and decide anew: `tidemill models history`") from None
    maybe_crash("route is written")
    board.publish(route)
    maybe_crash("route is published")
    return route


def with_share(arm: Arm, share: float, role: Role | None = None) -> Arm:
    """The same release with another share, and another role where one is given."""
    return replace(arm, share=share, role=role or arm.role)


def history(books: BooksReader, environment: str, model: str) -> list[Route]:
    """Every route of a model, oldest first: which release served at any instant."""
    return sorted(books.routes.find(environment=environment, model=model), key=lambda route: route.version)
