"""Deployments as containers: the image of a build answers, the next one replaces it, and a rollback brings it back."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import parts
from tests.delivery.builds import add_build, share_environments
from tests.delivery.images import add_build_with_image, share_layout
from tests.keys import make_key
from tests.projects import make_project, tidemill
from tidemill.compose.session import open_session
from tidemill.core.deployment import Deployment
from tidemill.core.fleet import Fleet
from tidemill.delivery.http_client import is_healthy, predict
from tidemill.errors import TidemillError
from tidemill.flow.session import Session
from tidemill.project.project import Project
from tidemill.recipes.answers import read_sample_rows
from tidemill.registry.deployments import find_healthy, list_deployments
from tidemill.testing.targets import Asking

ENVIRONMENTS = """
[environments.test]
kind = "test"
target = "container"

[environments.small]
target = "container"
memory_mb = 32

[environments.sealed]
target = "container"
signed = true

[environments.huge]
target = "container"
memory_mb = 100000000
"""


@pytest.fixture(scope="module")
def folder(
    tmp_path_factory: pytest.TempPathFactory, build_environments: Path, image_layout: Path, container_storage: Path
) -> Iterator[Path]:
    """A project with two builds that have an image, and one without."""
    folder = tmp_path_factory.mktemp("container") / "shop"
    folder.mkdir()
    make_project(folder)
    with (folder / "tidemill.toml").open("a") as file:
        file.write(ENVIRONMENTS)
        _, public = make_key(tmp_path_factory.mktemp("keys"), "own", "p256")
        file.write(f'\n[signing]\nkey = "${{SHOP_KEY}}"\npublic_key = """\n{public.read_text()}"""\n')
    with parts.containers(container_storage, keep=True):
        session = open_control(folder)
        share_environments(session, build_environments)
        share_layout(session, image_layout)
        add_build_with_image(session, 1)
        add_build_with_image(session, 2)
        add_build(session, 3)
        yield folder
        fleet = open_control(folder).resource(Fleet)
        for environment in ("test", "small", "huge", "sealed"):
            for running in fleet.list_running(environment):
                fleet.stop(environment, running)


def open_control(folder: Path) -> Session:
    return open_session(Project(folder), "ci")


def serving(folder: Path) -> Deployment:
    found = find_healthy(open_control(folder).workspace.ledger, "test")
    assert found is not None
    return found


def promote(folder: Path, build: int, environment: str = "test", code: int = 0) -> "subprocess.CompletedProcess[str]":
    return tidemill(folder, "deploy", "promote", str(build), "--to", environment, "--reason", "because", code=code)


def inspect(deployment: Deployment, field: str) -> str:
    command = ["podman", "inspect", "--format", field, f"tidemill-{deployment.id}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def wait_for_release(folder: Path, environment: str = "test") -> None:
    """Wait until the first model serves: it is trained in the container."""
    books = open_control(folder).workspace.ledger
    deadline = time.monotonic() + 600
    while not books.routes.find(environment=environment):
        assert not books.runs.find(environment=environment, state="failed")
        assert time.monotonic() < deadline, [run.error for run in books.runs.find()]
        time.sleep(0.2)


def predict_when_loaded(address: str, model: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The predictions of a service as soon as it has read the route."""
    deadline = time.monotonic() + 120
    while True:
        try:
            return predict(address, model, rows)
        except TidemillError as not_yet:
            is_early = "no model has a route yet" in not_yet.problem or "are being loaded" in not_yet.problem
            if not is_early or time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_a_container_trains_and_predicts(folder: Path) -> None:
    promote(folder, 1)
    now = serving(folder)
    build = open_control(folder).workspace.ledger.builds.get(now.build)
    assert inspect(now, "{{.ImageDigest}}") == build.image
    assert inspect(now, "{{.HostConfig.ReadonlyRootfs}} {{.EffectiveCaps}}") == "true []"
    wait_for_release(folder)
    books = open_control(folder).workspace
    release = books.ledger.releases.find()[0]
    rows = read_sample_rows(books.packages.load(release.package))[:1]
    assert len(predict_when_loaded(now.address, release.name, rows)) == 1
    runs = open_control(folder).workspace.ledger.runs.find(environment="test", pipeline="training")
    assert "done" in {run.state for run in runs}


def test_the_next_build_replaces_it_without_a_refused_request_and_a_rollback_brings_it_back(folder: Path) -> None:
    before = serving(folder)
    with Asking(before.address) as asking:
        promote(folder, 2)
    now = serving(folder)
    assert (now.address, now.previous) == (before.address, before.id)
    assert asking.count > 20
    assert asking.failures <= 1  # a connection in the queue of a socket that closes is reset by the kernel
    fleet = open_control(folder).resource(Fleet)
    assert fleet.list_running("test") == [now.id]
    tidemill(folder, "deploy", "rollback", "test", "--reason", "wrong")
    again = serving(folder)
    assert (again.build, again.change) == (before.build, "rollback")
    assert is_healthy(again.address)
    assert fleet.list_running("test") == [again.id]
    log = (folder / ".tidemill" / "environments" / "test" / "deployments" / now.id / "log.txt").read_text()
    assert "public at" in log


def test_a_killed_container_is_started_again(folder: Path) -> None:
    before = serving(folder)
    subprocess.run(["podman", "kill", "--signal", "KILL", f"tidemill-{before.id}"], check=True, capture_output=True)
    deadline = time.monotonic() + 120
    while is_healthy(before.address):
        assert time.monotonic() < deadline
    assert "start" in tidemill(folder, "deploy", "diff", code=1).stdout
    assert "started" in tidemill(folder, "deploy", "reconcile").stdout
    assert is_healthy(before.address)


@pytest.mark.parametrize(
    ("build", "environment", "code", "text"),
    [
        (3, "test", 2, "the build has no container image, which the target `container` needs"),
        (2, "small", 3, "limit of 32 MB of memory"),
        (2, "huge", 3, "100,000,000 MB of memory are required"),
        (2, "sealed", 3, "is not signed, and this environment starts only signed images"),
    ],
)
def test_an_unfit_build_or_machine_is_refused(folder: Path, build: int, environment: str, code: int, text: str) -> None:
    before = serving(folder)
    assert text in promote(folder, build, environment, code=code).stderr
    assert is_healthy(before.address)
    deployments = list_deployments(open_control(folder).workspace.ledger, environment)
    assert not [deployment for deployment in deployments if deployment.state == "healthy" and deployment != before]


def test_a_name_that_was_given_to_another_image_starts_the_image_of_the_build(folder: Path) -> None:
    first, second = (open_control(folder).workspace.ledger.builds.find(number=number)[0] for number in (1, 2))
    for build in (first, second):
        promote(folder, build.number)
    names = [f"localhost/shop:{build.image.removeprefix('sha256:')}" for build in (second, first)]
    subprocess.run(["podman", "tag", *names], check=True, capture_output=True)
    promote(folder, 1)
    assert inspect(serving(folder), "{{.ImageDigest}}") == first.image


def test_a_container_where_signatures_are_demanded_gets_the_key_and_signs_what_it_trains(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = next(tmp_path_factory.getbasetemp().glob("keys*/own.pem"))
    monkeypatch.setenv("SHOP_KEY", str(key))
    assert "is signed" in tidemill(folder, "ci", "sign", "1", "--reason", "read").stdout
    monkeypatch.setenv("SHOP_KEY", str(key.with_name("lost.pem")))
    assert "is not a file" in promote(folder, 1, "sealed", code=2).stderr
    monkeypatch.delenv("SHOP_KEY")
    monkeypatch.setenv("SHOP_KEY_FILE", str(key))
    promote(folder, 1, "sealed")
    now = find_healthy(open_control(folder).workspace.ledger, "sealed")
    assert now is not None
    assert is_healthy(now.address)
    mounts = inspect(now, "{{range .Mounts}}{{.Source}} {{.RW}}\n{{end}}").splitlines()
    assert f"{key} false" in mounts
    assert not [mount for mount in mounts if mount.startswith(f"{key.parent} ")]
    assert key.read_text().splitlines()[1] not in inspect(now, "{{json .}}")
    wait_for_release(folder, "sealed")
    books = open_control(folder).workspace.ledger
    (release,) = [release for release in books.releases.find() if release.environment == "sealed"]
    assert release.signature
    tidemill(folder, "models", "verify", release.label, "--env", "sealed")
    tidemill(folder, "deploy", "stop", "sealed", "--reason", "tried")


def test_without_a_runtime_the_cure_is_to_install_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    printed = promote(folder, 1, "small", code=1).stderr
    assert "neither podman nor docker is installed" in printed
    assert "install podman and skopeo on this machine" in printed
