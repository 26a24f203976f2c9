"""The built-in engines pass the engine suite, on SQLite and on PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import parts
from tests.delivery.builds import share_environments
from tests.delivery.images import add_build_with_image, share_layout
from tidemill.compose.session import open_session
from tidemill.core.build import Build
from tidemill.core.engine import StepImages
from tidemill.flow.session import Session
from tidemill.project.project import Project
from tidemill.testing.engines import EngineSuite

LOOKING = """\
import os
from pathlib import Path

from tidemill import pipeline, step


@step
def look() -> list[str]:
    try:
        Path("made.txt").touch()
        refused = ""
    except OSError as error:
        refused = str(error.strerror)
    return [os.environ["TIDEMILL_DATA"], os.environ["TIDEMILL_WORKSPACE"], os.getcwd(), refused]


@pipeline
def looking() -> None:
    look()
"""


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


class TestContainer(_EngineTest):
    """Each session has the same build in its ledger; its image is loaded once."""

    name = "container"
    isolated = True
    wide = True

    @pytest.fixture(scope="class")
    @classmethod
    def build(
        cls,
        tmp_path_factory: pytest.TempPathFactory,
        build_environments: Path,
        image_layout: Path,
        container_storage: Path,
    ) -> Iterator[Build]:
        folder = tmp_path_factory.mktemp("kit")
        (folder / "tidemill.toml").write_text('[project]\nname = "kit"\n')
        with parts.containers(container_storage, keep=True):
            session = open_session(Project(folder), "test")
            share_environments(session, build_environments)
            share_layout(session, image_layout)
            build = add_build_with_image(session, 1)
            images = session.resource(StepImages)
            images.load(images.choose("any"))
            yield build

    @pytest.fixture
    def session(self, tmp_path: Path, build: Build, monkeypatch: pytest.MonkeyPatch) -> Session:
        monkeypatch.setenv("TIDEMILL_WORKSPACE", str(tmp_path))  # steps of the suite write into this folder
        folder = tmp_path / "project"
        folder.mkdir()
        (folder / "tidemill.toml").write_text('[project]\nname = "kit"\n')
        session = open_session(Project(folder), "test")
        session.workspace.ledger.builds.add(build)
        return session

    def test_a_step_has_the_folders_of_the_run_and_cannot_change_the_project(self, session: Session) -> None:
        folder, root = session.project.folder, session.workspace.root
        (folder / "pipeline.py").write_text(LOOKING)
        done = self._run(session, session.pipeline("looking"))
        assert self._value(session, done, "look") == [str(folder), str(root), str(folder), "Read-only file system"]


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
