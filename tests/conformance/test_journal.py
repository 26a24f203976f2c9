"""The journal in files and one in memory pass the journal suite."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.compose.memory import MemoryJournal, memory_server
from tidemill.core.resources import Journal
from tidemill.journal.files import FileJournal
from tidemill.testing.journal import JournalSuite


class TestInFiles(JournalSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Callable[[], Journal]:
        return partial(FileJournal, tmp_path / "journal")

    @pytest.fixture
    def elsewhere(self, tmp_path: Path) -> Journal:
        return FileJournal(tmp_path / "elsewhere")


class TestInMemory(JournalSuite):
    @pytest.fixture
    def server(self) -> Iterator[str]:
        with memory_server() as url:
            yield url

    @pytest.fixture
    def opener(self, server: str) -> Callable[[], Journal]:
        return partial(MemoryJournal, f"{server}/journal")

    @pytest.fixture
    def elsewhere(self, server: str) -> Journal:
        return MemoryJournal(f"{server}/elsewhere")
