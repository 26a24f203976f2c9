"""What the tests of CI share: the environments of builds, which take seconds to make."""

from pathlib import Path

import pytest

from tests.delivery.repositories import Repository


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that keeps the environments of builds."""
    return tmp_path_factory.mktemp("environments")


@pytest.fixture
def repository(tmp_path: Path, environments: Path) -> Repository:
    """A repository with a project that passes CI, this test's own."""
    return Repository(tmp_path, environments)
