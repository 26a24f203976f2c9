"""What the tests of the engine can ask for."""

from pathlib import Path

import pytest

from tests.flow.kit import Mill


@pytest.fixture
def mill(tmp_path: Path) -> Mill:
    """A project with an empty workspace."""
    return Mill(tmp_path)
