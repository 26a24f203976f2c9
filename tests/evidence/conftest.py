"""A trained project that the tests of this folder read."""

import pytest

from tests.projects import make_project, tidemill
from tidemill.project.project import Project


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A shop with one release in production, which a run trained; no test changes it."""
    secret = 'notify = ["mailto://ada:planted-password@example.com"]'
    changes = {'notify = ["log"]': secret}
    project = make_project(tmp_path_factory.mktemp("trained") / "shop", replace=changes)
    tidemill(project.folder, "run", "training")
    return project
