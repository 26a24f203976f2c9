"""The online store in SQLite."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tidemill.featurestore.online import SqliteOnline
from tidemill.testing.online import OnlineStore, OnlineSuite


class TestInSqlite(OnlineSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Callable[[], OnlineStore]:
        return partial(SqliteOnline, tmp_path / "environments" / "online.db")
