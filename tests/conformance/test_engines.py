"""The built-in engines pass the engine suite, on SQLite and on PostgreSQL."""

from pathlib import Path

import pytest

from tidemill.compose.session import open_session
from tidemill.flow.session import Session
from tidemill.project.project import Project
from tidemill.testing.engines import EngineSuite


class _EngineTest(EngineSuite):
    @pytest.fixture
    def session(self, tmp_path: Path) -> Session:
        folder = tmp_path / "project"
        folder.mkdir()
        (folder / "tidemill.toml").write_text('[project]\nname = "kit"\n')
        return open_session(Project(folder), "test")


class TestInline(_EngineTest):
    name = "inline"


class TestProcesses(_EngineTest):
    name = "processes"
    isolated = True
    wide = True


class TestInlineOnPostgres(_EngineTest):
    @pytest.fixture(autouse=True)
    def _on_postgres(self, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("TIDEMILL_LEDGER", postgres_url)

    @pytest.fixture
    def session(self, tmp_path: Path, _on_postgres: None) -> Session:
        folder = tmp_path / "project"
        folder.mkdir()
        (folder / "tidemill.toml").write_text('[project]\nname = "kit"\n')
        return open_session(Project(folder), "test")
