"""The pytest plugin of the ML test kit: fixtures with the project, its reference sample and a model of the sample.

The generated `tests/conftest.py` imports it, so that pytest runs of other projects never load it. Libraries are
imported in the fixtures.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tidemill.project.configuration import FILE, find_project, read_policy

if TYPE_CHECKING:
    from tidemill.core.policy import ModelPolicy
    from tidemill.project.project import Project
    from tidemill.testing.kit import Sample, SampleTraining

__all__ = [
    "model_policy",
    "planted_secrets",
    "project",
    "pytest_configure",
    "pytest_generate_tests",
    "sample",
    "sample_rows",
    "trained",
    "trained_again",
    "training_pipeline",
    "training_run",
]

_MARK = "covers(kind): the kind of ML test, as `tidemill ci coverage` counts it"


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark of the kit."""
    config.addinivalue_line("markers", _MARK)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that uses a model once for each model of the project."""
    if "model_name" in metafunc.fixturenames:
        names = list(read_policy(find_project(metafunc.definition.path.parent) / FILE).models)
        metafunc.parametrize("model_name", names, scope="session")


@pytest.fixture(scope="session")
def project_folder(pytestconfig: pytest.Config) -> Path:
    """The folder of the project; the generated conftest.py overrides it."""
    return find_project(pytestconfig.invocation_params.dir)


@pytest.fixture(scope="session")
def project(project_folder: Path) -> "Project":
    """The project, with its policy and code."""
    from tidemill.project.project import Project

    return Project(project_folder)


@pytest.fixture(scope="session")
def model_policy(project: "Project", model_name: str) -> "ModelPolicy":
    """The settings of a model in tidemill.toml."""
    return project.model(model_name)


@pytest.fixture(scope="session")
def sample_rows() -> int:
    """The most rows of the reference sample; override it in conftest.py."""
    from tidemill.testing.kit.sample import ROWS

    return ROWS


@pytest.fixture(scope="session")
def training_pipeline() -> str:
    """The name of the pipeline that trains a model; override it in conftest.py."""
    return "training"


@pytest.fixture(scope="session")
def sample(project: "Project", model_policy: "ModelPolicy", sample_rows: int) -> "Sample":
    """The reference sample: the newest labelled rows of a model's source."""
    from tidemill.testing.kit import take_sample

    return take_sample(project, model_policy, sample_rows)


@pytest.fixture(scope="session")
def planted_secrets(project_folder: Path) -> dict[str, str]:
    """Values of environment variables that seem to be secrets, which are set during the training on the sample."""
    from tidemill.testing.kit import plant_secrets

    return plant_secrets(project_folder)


@pytest.fixture(scope="session")
def training_run(
    sample: "Sample", planted_secrets: dict[str, str], training_pipeline: str, tmp_path_factory: pytest.TempPathFactory
) -> "SampleTraining":
    """The training on the sample, also if it failed."""
    from tidemill.testing.kit import train_sample

    return train_sample(sample, tmp_path_factory.mktemp("sample"), training_pipeline, variables=planted_secrets)


@pytest.fixture(scope="session")
def trained(training_run: "SampleTraining", request: pytest.FixtureRequest) -> "SampleTraining":
    """The finished training on the sample; without it a test is skipped, because the integration test reports it."""
    _require_done(training_run, request)
    return training_run


@pytest.fixture(scope="session")
def trained_again(
    trained: "SampleTraining",
    planted_secrets: dict[str, str],
    training_pipeline: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> "SampleTraining":
    """A second training with the same rows and seed."""
    from tidemill.testing.kit import train_sample

    folder = tmp_path_factory.mktemp("again")
    return train_sample(trained.sample, folder, training_pipeline, probes=trained.probes, variables=planted_secrets)


def _require_done(training: "SampleTraining", request: pytest.FixtureRequest) -> None:
    """Skip the test if the training failed and another test of this session reports it; otherwise fail."""
    from tidemill.testing.kit import require_finished

    if training.run.state == "done":
        return
    if any(_covers(item, "integration") for item in request.session.items):
        pytest.skip(f"the training on the sample failed: {training.run.error}")
    require_finished(training)


def _covers(item: Any, kind: str) -> bool:
    marks: Callable[..., Any] = item.iter_markers
    return any(kind in mark.args for mark in marks("covers"))
