"""Publication: the board is a copy of the routes in the ledger, and is repaired from it."""

from tidemill.core.resources import Board, Books, BooksReader
from tidemill.core.route import Route


def list_unpublished(books: BooksReader, board: Board, environment: str) -> list[Route]:
    """Return the current routes that the board does not have: the process that wrote one died, or a file is damaged."""
    published, unpublished = board.routes(), []
    for model in sorted(books.routes.values("model", environment=environment)):
        newest = books.routes.find(environment=environment, model=model, newest=True, limit=3)
        route = max(newest, key=lambda route: route.version, default=None)
        if route is not None and (model not in published or published[model].version < route.version):
            unpublished.append(route)
    return unpublished


def publish_routes(books: Books, board: Board, environment: str) -> list[Route]:
    """Publish the current routes that the board does not have, and return them."""
    unpublished = list_unpublished(books, board, environment)
    for route in unpublished:
        board.publish(route)
    return unpublished
