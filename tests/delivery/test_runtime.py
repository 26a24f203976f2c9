"""The runtime of a build: the Tidemill that tested it runs it, not the one that deploys it."""

import subprocess
from pathlib import Path

import pytest

from tests.delivery.builds import add_build
from tests.projects import make_project
from tidemill.compose.session import open_session
from tidemill.delivery.runtime import name_wheel, prepare_runtime
from tidemill.delivery.wheel import write_wheel
from tidemill.errors import NotFound
from tidemill.flow.session import Session
from tidemill.project.project import Project


@pytest.fixture
def session(tmp_path: Path) -> Session:
    folder = tmp_path / "shop"
    folder.mkdir()
    make_project(folder)
    return open_session(Project(folder), "ci")


def test_a_build_runs_with_the_tidemill_that_tested_it(session: Session, tmp_path: Path) -> None:
    """Its wheel is an artifact; an earlier Tidemill, which has one module only, is told from the running one by it."""
    blobs = session.workspace.blobs
    earlier = write_wheel(
        "tidemill", "0.0.7", {"tidemill/__init__.py": b"TESTED = True\n"}, ["Summary: An earlier one."]
    )
    wheel = add_build(session, 1, packages={}).artifacts["wheel"]
    build = add_build(session, 2, packages={}, artifacts={"wheel": wheel, "tidemill": blobs.put(earlier[1])})
    assert name_wheel(earlier[1]) == earlier[0]
    python = prepare_runtime(build, blobs.get, tmp_path / "builds").python
    shown = "import tidemill, importlib.metadata; print(tidemill.TESTED, importlib.metadata.version('tidemill'))"
    assert subprocess.run([python, "-c", shown], capture_output=True, text=True, check=True).stdout == "True 0.0.7\n"


def test_a_build_without_a_wheel_of_tidemill_runs_with_that_of_this_machine(
    session: Session, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    build = add_build(session, 1, packages={})
    python = prepare_runtime(build, session.workspace.blobs.get, tmp_path / "builds").python
    assert "has no wheel of the Tidemill that tested it" in capfd.readouterr().out
    code = "import importlib.util; print(importlib.util.find_spec('tidemill') is not None)"
    assert subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout == "True\n"


def test_a_lost_wheel_of_tidemill_is_an_error(session: Session, tmp_path: Path) -> None:
    wheel = add_build(session, 1, packages={}).artifacts["wheel"]
    build = add_build(session, 2, packages={}, artifacts={"wheel": wheel, "tidemill": "0" * 64})
    with pytest.raises(NotFound):
        prepare_runtime(build, session.workspace.blobs.get, tmp_path / "builds")
