"""The engines that come with Tidemill."""

from pathlib import Path

import pytest

from tidemill.compose.session import open_session
from tidemill.flow.session import Session
from tidemill.project.project import Project
from tidemill.testing.engines import EngineSuite


class _Here(EngineSuite):
    @pytest.fixture
    def session(self, tmp_path: Path) -> Session:
        folder = tmp_path / "project"
        folder.mkdir()
        (folder / "tidemill.toml").write_text('[project]\nname = "kit"\n')
        return open_session(Project(folder), "test")


class TestInline(_Here):
    name = "inline"


class TestProcesses(_Here):
    name = "processes"
    isolated = True
    wide = True


class TestInlineOnPostgres(_Here):
    @pytest.fixture(autouse=True)
    def _elsewhere(self, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TIDEMILL_LEDGER", postgres_url)

    @pytest.fixture
    def session(self, tmp_path: Path, _elsewhere: None) -> Session:
        folder = tmp_path / "project"
        folder.mkdir()
        (folder / "tidemill.toml").write_text('[project]\nname = "kit"\n')
        return open_session(Project(folder), "test")
