"""What the tests of CI share: the environments of builds, which take seconds to make."""

from pathlib import Path

import pytest

from tests.delivery.repositories import Repository


@pytest.fixture(scope="session")
def environments(shared_folder: Path) -> Path:
    """A folder that keeps the environments of builds."""
    folder = shared_folder / "ci"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def repository(tmp_path: Path, environments: Path) -> Repository:
    """A repository with a project that passes CI, this test's own."""
    return Repository(tmp_path, environments)
