"""The fixtures of the ML test kit: the project, a sample of its rows, and a model that is trained on the sample.

Override one here: `sample_rows` (how many rows), `training_pipeline` (the name of the pipeline that trains a model).
"""

from pathlib import Path

import pytest

from tidemill.testing.plugin import *  # noqa: F403


@pytest.fixture(scope="session")
def project_folder() -> Path:
    return Path(__file__).parent.parent
