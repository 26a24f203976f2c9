"""A project and a ledger for the tests of triggers."""

from pathlib import Path

import pytest

from tests.projects import make_project
from tidemill.ledger.ledger import Ledger
from tidemill.project.project import Project


@pytest.fixture
def shop(tmp_path: Path) -> Project:
    return make_project(tmp_path / "shop")


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
