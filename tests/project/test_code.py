"""The user's code: found, or explained."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tidemill.errors import ConfigurationError, NotFound
from tidemill.project.code import Code

PIPELINE = """
from tidemill import pipeline, step

@step
def load() -> int:
    return 1

@pipeline
def training() -> None:
    load()
"""
FEATURES = """
from tidemill import Entity, FeatureView

airport = Entity("airport", ("origin",))
weather = FeatureView(name="weather", entity=airport, source="weather", columns=("wind",))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A project's folder; what its loading leaves in this process goes with it."""
    paths, modules = list(sys.path), set(sys.modules)
    yield tmp_path
    sys.path[:] = paths
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def test_pipelines_and_views_are_found_by_name(folder: Path) -> None:
    (folder / "pipeline.py").write_text(PIPELINE)
    (folder / "features.py").write_text(FEATURES)
    code = Code(folder)
    assert code.pipeline("training").name == "training"
    assert code.view("weather").features == ("weather_wind",)
    with pytest.raises(NotFound, match="no pipeline 'trainig'") as pipeline:
        code.pipeline("trainig")
    assert "training" in pipeline.value.cure
    with pytest.raises(NotFound, match="no view 'wether'") as view:
        code.view("wether")
    assert "weather" in view.value.cure


def test_a_project_without_code_has_none(folder: Path) -> None:
    code = Code(folder)
    with pytest.raises(NotFound) as raised:
        code.pipeline("training")
    assert "none" in raised.value.cure


def test_a_syntax_error_is_reported_with_its_line(folder: Path) -> None:
    (folder / "pipeline.py").write_text(PIPELINE + "\ndef broken(:\n")
    with pytest.raises(ConfigurationError, match=r"pipeline\.py, line 12: ") as raised:
        Code(folder)
    assert raised.value.cure


def test_a_syntax_error_in_a_helper_names_the_helper(folder: Path) -> None:
    (folder / "helpers_of_tide.py").write_text("x = 1\ny = = 2\n")
    (folder / "pipeline.py").write_text("import helpers_of_tide\n" + PIPELINE)
    with pytest.raises(ConfigurationError, match=r"helpers_of_tide\.py, line 2: "):
        Code(folder)


def test_an_import_that_fails_is_reported(folder: Path) -> None:
    (folder / "pipeline.py").write_text("import nowhere_to_be_found\n")
    with pytest.raises(
        ConfigurationError, match=r"pipeline\.py cannot be imported: ModuleNotFoundError.*nowhere_to"
    ) as raised:
        Code(folder)
    assert isinstance(raised.value.__cause__, ModuleNotFoundError)


def test_modules_beside_the_pipeline_can_be_imported(folder: Path) -> None:
    (folder / "tide_tables.py").write_text("HIGH = 3\n")
    (folder / "pipeline.py").write_text("from tide_tables import HIGH\n" + PIPELINE)
    assert list(Code(folder).pipelines) == ["training"]


def test_two_views_of_one_name_are_refused(folder: Path) -> None:
    (folder / "features.py").write_text(FEATURES + 'other = FeatureView(name="weather", entity=airport, source="w")\n')
    with pytest.raises(ConfigurationError, match=r"features\.py defines two feature views named 'weather'"):
        Code(folder)
    (folder / "features.py").write_text(FEATURES + "the_same = weather\n")
    assert list(Code(folder).views) == ["weather"]
