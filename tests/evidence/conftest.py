"""A trained project that the tests of this folder read, and its signed evidence."""

from pathlib import Path

import pytest

from tests.keys import make_key
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


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two Ed25519 keys and a key of NIST P-256, made by OpenSSL: `a.pem` and `a.pub.pem`, …"""
    folder = tmp_path_factory.mktemp("keys")
    for name, kind in (("a", "ed25519"), ("b", "ed25519"), ("p256", "p256")):
        make_key(folder, name, kind)
    return folder


@pytest.fixture(scope="session")
def exported(trained: Project, keys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed evidence file."""
    file = tmp_path_factory.mktemp("exported") / "shop-1.zip"
    tidemill(trained.folder, "evidence", "export", "shop/1", "--out", str(file), "--key", str(keys / "a.pem"))
    return file
