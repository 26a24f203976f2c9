"""The board in files passes the board suite."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tidemill.core.resources import Board
from tidemill.journal.board import FileBoard
from tidemill.testing.board import BoardSuite


class TestInFiles(BoardSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Callable[[], Board]:
        return partial(FileBoard, tmp_path / "board")

    @pytest.fixture
    def elsewhere(self, tmp_path: Path) -> Board:
        return FileBoard(tmp_path / "elsewhere")
