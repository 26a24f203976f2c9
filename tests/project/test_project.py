"""A project: its models, its features, its places."""

from pathlib import Path

import pytest

from tests.project.wrong_settings import BASE
from tidemill.errors import ConfigurationError, InputError, NotFound
from tidemill.project.project import Project


def project(folder: Path, more: str = "") -> Project:
    (folder / "tidemill.toml").write_text(BASE + more)
    return Project(folder)


def test_the_only_model_needs_no_name(tmp_path: Path) -> None:
    assert project(tmp_path).model().name == "flights"
    assert project(tmp_path).model("flights").name == "flights"


def test_of_several_models_one_must_be_named(tmp_path: Path) -> None:
    other = '[models.other.problem]\ndecision = "d"\nsource = "flights"\nlabel = "x"\n'
    found = project(tmp_path, other)
    assert found.model("other").problem.label == "x"
    with pytest.raises(InputError, match="2 models") as many:
        found.model()
    assert "flights" in many.value.cure
    with pytest.raises(NotFound, match="no model 'late'"):
        found.model("late")


def test_a_view_that_the_code_does_not_define_is_reported(tmp_path: Path) -> None:
    found = project(tmp_path, '[inputs]\nviews = ["weather"]\n')
    with pytest.raises(NotFound, match="no view 'weather'"):
        found.features(found.model())


def test_the_environment_names_the_project_and_its_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path)
    monkeypatch.setenv("TIDEMILL_PROJECT", str(tmp_path))
    here = Project.find()
    assert here.folder == tmp_path.resolve()
    assert here.state_folder == tmp_path.resolve() / ".tidemill"
    monkeypatch.setenv("TIDEMILL_WORKSPACE", str(tmp_path / "elsewhere"))
    assert here.state_folder == tmp_path / "elsewhere"


def test_outside_a_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TIDEMILL_PROJECT", raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigurationError):
        Project.find()
