"""Conformance suite of boards: routes and tokens are published atomically, an older version never replaces a newer."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest

from tidemill.core.resources import Board
from tidemill.core.route import Arm, Route
from tidemill.core.token import Token, TokenList

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)


def route(version: int, model: str = "late") -> Route:
    """Return a route of a model with one release."""
    arm = Arm(release=f"{model}/{version}", version=version, package="p" * 64, role="champion", share=1.0)
    return Route(
        id=f"{model}-{version}",
        environment="production",
        model=model,
        version=version,
        arms=(arm,),
        since=NOON,
        reason="Zürich",
    )


def token_list(version: int) -> TokenList:
    """Return a list with as many tokens as its version."""
    return TokenList(
        version,
        tuple(
            Token(
                id=f"token-{number}",
                name=f"app-{number}",
                owner="Zoë",
                roles=("viewer",),
                digest=f"{number:064x}",
                created=NOON,
                by="root",
                expires=NOON,
            )
            for number in range(version)
        ),
    )


class BoardSuite:
    """Subclass it and define the fixtures `opener`, which opens the same board, and `elsewhere`.

    ::

        class TestMyBoard(BoardSuite):
            @pytest.fixture
            def opener(self, tmp_path):
                return partial(MyBoard, tmp_path / "board")

            @pytest.fixture
            def elsewhere(self, tmp_path):
                return MyBoard(tmp_path / "elsewhere")
    """

    @pytest.fixture
    def opener(self) -> Callable[[], Board]:
        """Return a function that opens the same board; the board is empty at first."""
        raise NotImplementedError("define the fixture `opener`")

    @pytest.fixture
    def elsewhere(self) -> Board:
        """Another board, which is empty."""
        raise NotImplementedError("define the fixture `elsewhere`")

    @pytest.fixture
    def board(self, opener: Callable[[], Board]) -> Board:
        return opener()

    def test_a_published_route_is_seen_by_everybody(self, board: Board, opener: Callable[[], Board]) -> None:
        assert board.routes() == {}
        board.publish(route(1))
        board.publish(route(4, "other"))
        assert opener().routes() == {"late": route(1), "other": route(4, "other")}

    def test_an_older_version_never_replaces_a_newer_one(self, board: Board) -> None:
        for version in (2, 1, 3, 2):
            board.publish(route(version))
        assert board.routes() == {"late": route(3)}

    def test_of_many_publishers_the_newest_version_wins(self, opener: Callable[[], Board]) -> None:
        def publish(version: int) -> None:
            opener().publish(route(version))
            assert opener().routes()["late"].version >= version

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(publish, [7, 3, 9, 1, 8, 2, 6, 4, 5] * 3))
        assert opener().routes() == {"late": route(9)}

    def test_published_tokens_are_seen_by_everybody(self, board: Board, opener: Callable[[], Board]) -> None:
        assert board.tokens() is None
        board.publish_tokens(token_list(1))
        assert opener().tokens() == token_list(1)
        assert board.routes() == {}

    def test_an_older_list_of_tokens_never_replaces_a_newer_one(self, opener: Callable[[], Board]) -> None:
        def publish(version: int) -> None:
            opener().publish_tokens(token_list(version))
            published = opener().tokens()
            assert published is not None
            assert published.version >= version

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(publish, [7, 3, 9, 1, 8, 2, 6, 4, 5] * 3))
        assert opener().tokens() == token_list(9)

    def test_an_export_fills_another_board(self, board: Board, elsewhere: Board) -> None:
        assert list(board.export()) == []
        board.publish(route(1))
        board.publish(route(4, "other"))
        board.publish_tokens(token_list(2))
        elsewhere.load(board.export())
        assert elsewhere.routes() == board.routes()
        assert elsewhere.tokens() == token_list(2)
