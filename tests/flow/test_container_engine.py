"""What the engine `container` says when it cannot run a step; the suite of engines runs its steps in a real image."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.projects import DOUBLING
from tidemill.compose.session import open_session
from tidemill.core.build import Build
from tidemill.errors import TidemillError
from tidemill.flow.engine import run
from tidemill.flow.engines import container_process
from tidemill.flow.session import Session
from tidemill.project.project import Project

DIGEST = f"sha256:{'4' * 64}"


def open_project(folder: Path, settings: str = "") -> Session:
    (folder / "tidemill.toml").write_text(
        f'[project]\nname = "kit"\n\n[pipelines.doubling]\nengine = "container"\n{settings}\n'
    )
    (folder / "pipeline.py").write_text(DOUBLING)
    return open_session(Project(folder), "test")


def fail(session: Session) -> TidemillError:
    """The error of a run of the pipeline, which is also in the ledger."""
    record, error = run(session, session.pipeline("doubling"), {})
    assert (record.state, record.engine) == ("failed", "container")
    assert error is not None
    assert error.problem in record.error
    return error


def add_build(session: Session) -> None:
    session.workspace.ledger.builds.add(
        Build(
            id=session.clock.mint(), project="kit", number=1, commit="4" * 40, state="passed",
            created=session.clock.now(), environment="ci", image=DIGEST, python="3.12.1", packages={"polars": "2.0.0"},
        )
    )  # fmt: skip


def test_without_an_image_the_cure_is_to_build_one(tmp_path: Path) -> None:
    error = fail(open_project(tmp_path))
    assert "no build of the project has one" in error.problem
    assert 'image = "always"' in error.cure


def test_an_image_by_a_name_is_refused(tmp_path: Path) -> None:
    error = fail(open_project(tmp_path, 'image = "kit:latest"'))
    assert "'kit:latest' of pipeline 'doubling' is no digest" in error.problem


def test_without_a_runtime_the_cure_is_to_install_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = open_project(tmp_path)
    add_build(session)
    monkeypatch.setenv("PATH", str(tmp_path))
    error = fail(session)
    assert "neither podman nor docker is installed" in error.problem
    assert "install podman" in error.cure


def test_an_image_that_is_not_there_any_more_is_an_error_and_the_run_names_it(tmp_path: Path) -> None:
    if shutil.which("podman") is None:
        pytest.skip("not on this machine: podman (scripts/install-system-parts)")
    session = open_project(tmp_path)
    add_build(session)
    assert f"image {DIGEST} is not in" in fail(session).problem
    (record,) = session.workspace.ledger.runs.find()
    assert record.code["image"] == DIGEST
    assert record.software == {"python": "3.12.1", "polars": "2.0.0"}  # those of the image, not of this process
    assert session.workspace.blobs.get(record.packages) == b"polars==2.0.0"


@pytest.mark.parametrize(("python", "tidemill"), [("3.1", container_process.digest_code()), ("", "0" * 16)])
def test_a_container_with_another_tidemill_or_python_ends_before_it_imports_tidemill(
    python: str, tidemill: str
) -> None:
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    program = Path(container_process.__file__).read_text()
    words = [sys.executable, "-c", program, python or own, tidemill]
    done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    assert done.returncode == container_process.DIFFERENT
    assert done.stderr == f"Python {own}, Tidemill {container_process.digest_code()}\n"
