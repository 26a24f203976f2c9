"""A pytest plugin that writes the kinds of the collected tests to a file, for `tidemill ci coverage`."""

import json
import os
from pathlib import Path

import pytest

VARIABLE = "TIDEMILL_COLLECTED_TESTS"


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark of the kit, also for tests that do not use its fixtures."""
    config.addinivalue_line("markers", "covers(kind): the kind of ML test")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write the kinds of each test."""
    tests = {
        item.nodeid: [str(kind) for mark in item.iter_markers("covers") for kind in mark.args] for item in session.items
    }
    Path(os.environ[VARIABLE]).write_text(json.dumps(tests), encoding="utf-8")
