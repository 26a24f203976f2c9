"""The kit trains a project that signs its models without the key, which CI has not."""

from pathlib import Path

import pytest

from tests.keys import make_key
from tests.projects import make_project
from tidemill.project.project import Project
from tidemill.testing.kit.sample import take_sample
from tidemill.testing.kit.training import train_sample


@pytest.mark.parametrize("key", ["../keys/lost.pem", "${SHOP_SIGNING_KEY}"])
def test_a_project_that_signs_trains_on_its_sample_without_the_key(tmp_path: Path, key: str) -> None:
    folder = tmp_path / "shop"
    make_project(folder)
    _, public = make_key(tmp_path, "own", "p256")
    with (folder / "tidemill.toml").open("a") as file:
        file.write("\n[environments.test]\nsigned = true\n")
        file.write(f'\n[signing]\nkey = "{key}"\npublic_key = """\n{public.read_text()}"""\n')
    project = Project(folder)
    trained = train_sample(take_sample(project, project.model()), tmp_path / "workspace")
    assert trained.error is None
    assert trained.run.state == "done"
