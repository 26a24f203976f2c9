"""The ledger in SQLite and in PostgreSQL passes the ledger suite."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tidemill.core.resources import Books
from tidemill.ledger.ledger import Ledger
from tidemill.testing.ledger import LedgerSuite


class TestOnSqlite(LedgerSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Callable[[], Books]:
        return partial(Ledger, f"sqlite:///{tmp_path / 'ledger.db'}")


class TestOnPostgres(LedgerSuite):
    @pytest.fixture
    def opener(self, postgres_url: str) -> Callable[[], Books]:
        return partial(Ledger, postgres_url)
