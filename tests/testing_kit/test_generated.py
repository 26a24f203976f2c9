"""`tidemill ci generate-tests` keeps what people edited, and `tidemill ci coverage` names the missing kinds."""

from pathlib import Path

import pytest

from tests.projects import listed, make_project, tidemill
from tidemill.testing.kit.kinds import KINDS


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_project(tmp_path / "shop").folder


def _states(project: Path) -> dict[str, str]:
    return {file["path"]: file["state"] for file in listed(project, "ci", "generate-tests")}


def test_a_new_project_has_all_files_and_nothing_is_written_twice(project: Path) -> None:
    assert set(_states(project).values()) == {"unchanged"}


def test_a_missing_file_is_written(project: Path) -> None:
    (project / "tests" / "test_model.py").unlink()
    assert _states(project)["tests/test_model.py"] == "written"
    assert set(_states(project).values()) == {"unchanged"}


def test_an_edited_file_is_kept_and_reported(project: Path) -> None:
    file = project / "tests" / "test_data.py"
    file.write_text(file.read_text() + "\n# our own words\n")
    assert _states(project)["tests/test_data.py"] == "edited"
    assert file.read_text().endswith("# our own words\n")
    assert "edited by a person: kept" in tidemill(project, "ci", "generate-tests").stdout


def test_a_file_of_an_earlier_version_that_nobody_edited_is_updated(project: Path) -> None:
    from tidemill.project.generated_tests import _add_header

    file = project / "tests" / "test_data.py"
    file.write_text(_add_header('"""What an earlier version wrote."""\n'))
    assert _states(project)["tests/test_data.py"] == "updated"
    assert "covers" in file.read_text()


def test_coverage_names_the_kinds_by_marks_and_how_to_add_those_that_are_missing(project: Path) -> None:
    covered = {kind["kind"]: kind for kind in listed(project, "ci", "coverage")["kinds"]}
    assert list(covered) == [kind.name for kind in KINDS]
    assert all(kind["tests"] and not kind["add"] for kind in covered.values())

    (project / "tests" / "test_expectations.py").unlink()
    (project / "tests" / "test_data.py").rename(project / "tests" / "test_renamed.py")
    covered = {kind["kind"]: kind for kind in listed(project, "ci", "coverage")["kinds"]}
    assert [name for name, kind in covered.items() if not kind["tests"]] == ["expectations"]
    assert "tidemill ci generate-tests" in covered["expectations"]["add"]
    assert "test_renamed.py" in covered["leakage"]["tests"][0]
    assert "the project lacks: expectations" in tidemill(project, "ci", "coverage").stdout


def test_coverage_of_a_project_without_tests_and_with_a_broken_file(project: Path) -> None:
    broken = project / "tests" / "test_broken.py"
    broken.write_text("import nowhere\n")
    failed = tidemill(project, "ci", "coverage", code=1)
    assert "cannot be collected: ModuleNotFoundError: No module named 'nowhere'" in failed.stderr
    for file in (project / "tests").glob("*"):
        file.unlink() if file.is_file() else None
    covered = listed(project, "ci", "coverage")["kinds"]
    assert all(not kind["tests"] and kind["add"] for kind in covered)


def test_the_tests_of_the_example_are_up_to_date() -> None:
    from tests.docs.pages import ROOT
    from tidemill.project.generated_tests import list_test_files

    folder = ROOT / "examples" / "flights"
    other = [path for path, content in list_test_files().items() if (folder / path).read_text() != content]
    assert other == ["tests/expectations.toml"], "run `tidemill ci generate-tests` in examples/flights"
