"""The journal in files."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tidemill.core.resources import Journal
from tidemill.journal.files import FileJournal
from tidemill.testing.journal import JournalSuite


class TestInFiles(JournalSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Callable[[], Journal]:
        return partial(FileJournal, tmp_path / "journal")
