"""What the tests of the service can ask for."""

from pathlib import Path

import pytest

from tests.serving.kit import Mill


@pytest.fixture
def mill(tmp_path: Path) -> Mill:
    """An empty workspace."""
    return Mill(tmp_path / "workspace")
