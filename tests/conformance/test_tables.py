"""Tables in Delta Lake pass the table suite."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tidemill.core.resources import Tables
from tidemill.journal.tables import DeltaTables
from tidemill.testing.tables import TablesSuite


class TestInDelta(TablesSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Callable[[], Tables]:
        return partial(DeltaTables, str(tmp_path / "tables"))

    @pytest.fixture
    def elsewhere(self, tmp_path: Path) -> Tables:
        return DeltaTables(str(tmp_path / "else where, Zürich"))
