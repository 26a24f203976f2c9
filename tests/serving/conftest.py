"""Fixtures of the service's tests."""

from pathlib import Path

import pytest

from tests.serving.kit import ServingKit


@pytest.fixture
def kit(tmp_path: Path) -> ServingKit:
    """An empty workspace."""
    return ServingKit(tmp_path / "workspace")
