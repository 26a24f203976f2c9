"""Publication: the board is a copy of the routes in the ledger, is read back, and is repaired from the ledger."""

from tidemill.core.resources import Board, Books, BooksReader
from tidemill.core.route import Route
from tidemill.errors import NotFound, TidemillError
from tidemill.telemetry import get_logger

log = get_logger("registry")


def publish_route(books: BooksReader, board: Board, route: Route) -> Route:
    """Publish a route of the ledger, and return the route that the board has then: this one, or a newer one.

    A route that is not in the ledger, of a restored backup or of another ledger, is replaced whatever its version is.

    Raises
    ------
    TidemillError
        if the board does not have a route of the ledger afterwards.
    """
    try:
        board.publish(route)
        published = board.routes().get(route.model)
        if published is not None and published.id != route.id and is_foreign(books, route.environment, published):
            log.warning(
                "the board had version %d of the route of %s, which is not in the ledger: version %d of the "
                "ledger replaces it",
                published.version,
                route.model,
                route.version,
            )
            board.publish(route, replaces=published.id)
            published = board.routes().get(route.model)
    except TidemillError as unavailable:
        raise type(unavailable)(
            f"version {route.version} of the route of {route.model} is in the ledger, but not in production yet: "
            f"{unavailable.problem}",
            f"{unavailable.cure}; the next command, or `tidemill up`, then publishes it",
        ) from None
    if published is None or (published.id != route.id and published.version <= route.version):
        found = f"the board has version {published.version}" if published is not None else "the board has no route"
        raise TidemillError(
            f"version {route.version} of the route of {route.model} is in the ledger, but not in production: {found}",
            "check that one workspace uses one ledger, then try again: `tidemill models history`",
        )
    return published


def is_foreign(books: BooksReader, environment: str, route: Route) -> bool:
    """Return whether the ledger does not have a published route of an environment: another ledger wrote it."""
    try:
        known = books.routes.get(route.id)
    except NotFound:
        return True
    return known.id != route.id or known.environment != environment


def list_unpublished(books: BooksReader, board: Board, environment: str) -> list[Route]:
    """Return the current routes of the ledger that the board does not have.

    The process that wrote one died before it published it, a file is damaged, or the board is that of another ledger.
    """
    published, unpublished = board.routes(), []
    for model in sorted(books.routes.values("model", environment=environment)):
        newest = books.routes.find(environment=environment, model=model, newest=True, limit=3)
        route = max(newest, key=lambda route: route.version, default=None)
        there = published.get(model)
        if route is None or (there is not None and there.id == route.id):
            continue
        if there is None or there.version < route.version or is_foreign(books, environment, there):
            unpublished.append(route)
    return unpublished


def publish_routes(books: Books, board: Board, environment: str) -> list[Route]:
    """Publish the current routes that the board does not have, and return them."""
    unpublished = list_unpublished(books, board, environment)
    for route in unpublished:
        publish_route(books, board, route)
    return unpublished
