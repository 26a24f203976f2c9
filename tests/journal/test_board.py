"""The board: the newest route of each model, whole, whoever publishes when."""

import random
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.processes import in_child
from tidemill.core.route import Arm, Route
from tidemill.core.token import TokenList
from tidemill.errors import Corrupt
from tidemill.journal.board import FileBoard
from tidemill.testing.processes import run_in_processes


def route(version: int, model: str = "late") -> Route:
    arm = Arm(release=f"{model}/{version}", version=version, package="p" * 64, role="champion", share=1.0)
    return Route(
        id=f"r{version}",
        environment="test",
        model=model,
        version=version,
        arms=(arm,) * 50,
        since=datetime(2013, 3, 1, tzinfo=UTC),
        reason="it was better",
    )


def test_the_newest_route_of_each_model_is_shown(tmp_path: Path) -> None:
    board = FileBoard(tmp_path / "routes")
    assert board.routes() == {}
    for published in (route(1), route(3), route(2), route(3), route(1, "full")):
        board.publish(published)
    assert FileBoard(tmp_path / "routes").routes() == {"late": route(3), "full": route(1, "full")}


def test_a_deleted_file_is_missed_until_it_is_published_again(tmp_path: Path) -> None:
    board = FileBoard(tmp_path)
    for model in ("late", "full"):
        board.publish(route(1, model))
    assert board.tokens() is None
    board.publish_tokens(TokenList(version=1, tokens=()))
    for name in ("late.json", "access.tokens"):
        (tmp_path / name).unlink()
    for opened in (board, FileBoard(tmp_path)):
        assert list(opened.routes()) == ["full"]
        with pytest.raises(Corrupt, match=r"access.tokens was published and is gone"):
            opened.tokens()
        assert [(each.name, each.state) for each in opened.check()] == [
            ("access.tokens", "missing"),
            ("late.json", "missing"),
        ]
    board.publish(route(1, "late"))
    board.publish_tokens(TokenList(version=1, tokens=()))
    assert (list(FileBoard(tmp_path).check()), len(FileBoard(tmp_path).routes())) == ([], 2)


def test_readers_always_see_one_whole_route(tmp_path: Path) -> None:
    board = FileBoard(tmp_path)
    board.publish(route(1))
    done = threading.Event()

    def publish() -> None:
        for version in range(2, 300):
            board.publish(route(version))
        done.set()

    thread = threading.Thread(target=publish)
    thread.start()
    seen = 0
    while not done.is_set():
        version = board.routes()["late"].version
        assert version >= seen
        seen = version
    thread.join()


def test_an_older_route_never_replaces_a_newer_one_whoever_comes_last(tmp_path: Path) -> None:
    threads = [threading.Thread(target=_publish_all, args=(place, tmp_path)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert FileBoard(tmp_path).routes()["late"].version == 100
    run_in_processes(3, _publish_all, tmp_path / "others")
    assert FileBoard(tmp_path / "others").routes()["late"].version == 100


def test_a_read_only_board_is_reported_and_still_read(tmp_path: Path) -> None:
    FileBoard(tmp_path).publish(route(1))
    reported = in_child(
        f"""
        from pathlib import Path
        from tidemill.journal.board import FileBoard
        from tests.journal.test_board import route
        board = FileBoard(Path({str(tmp_path)!r}))
        explain(lambda: board.publish(route(2)))
        print(board.routes()["late"].version)
        """,
        read_only=tmp_path,
    )
    assert reported.startswith("TidemillError: the route of model 'late' could not be published")
    assert reported.endswith("1\n")


def _publish_all(place: int, folder: Path) -> None:
    """Publish a hundred versions in an order of our own; no newer one may be lost at any time."""
    board = FileBoard(folder)
    versions = random.Random(place).sample(range(1, 101), 100)
    for version in versions:
        board.publish(route(version))
        assert board.routes()["late"].version >= version
