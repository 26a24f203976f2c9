"""The online store in SQLite and one in memory pass the online store suite."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.compose.memory import MemoryOnline, memory_server
from tidemill.core.resources import Online
from tidemill.featurestore.online import SqliteOnline
from tidemill.testing.online import OnlineSuite


class TestInSqlite(OnlineSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Callable[[], Online]:
        return partial(SqliteOnline, tmp_path / "environments" / "online.db")

    @pytest.fixture
    def elsewhere(self, tmp_path: Path) -> Online:
        return SqliteOnline(tmp_path / "elsewhere" / "online.db")


class TestInMemory(OnlineSuite):
    @pytest.fixture
    def server(self) -> Iterator[str]:
        with memory_server() as url:
            yield url

    @pytest.fixture
    def opener(self, server: str) -> Callable[[], Online]:
        return partial(MemoryOnline, f"{server}/online")

    @pytest.fixture
    def elsewhere(self, server: str) -> Online:
        return MemoryOnline(f"{server}/elsewhere")
