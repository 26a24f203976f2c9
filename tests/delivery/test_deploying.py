"""Deployments with real processes: what is deployed answers, what is wrong is refused, and production keeps serving."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.delivery.builds import add_build, list_packages, share_environments
from tests.projects import make_project, tidemill
from tidemill.compose.session import open_session
from tidemill.core.build import Build
from tidemill.core.deployment import Deployment
from tidemill.core.fleet import Fleet
from tidemill.delivery.http_client import is_healthy
from tidemill.delivery.runtime import prepare_runtime
from tidemill.flow.session import Session
from tidemill.project.project import Project
from tidemill.registry.deployments import find_healthy, list_deployments

ENVIRONMENTS = """
[environments.test]
kind = "test"

[environments.test.load]
rate = 20
seconds = 1

[environments.production]
after = "test"
approvals = 1

[environments.small]
memory_mb = 100000000

[environments.accelerated]
accelerator = true

[environments.limited]
memory_mb = 60
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, build_environments: Path) -> Iterator[Path]:
    """A project with environments; what runs is stopped at the end."""
    folder = tmp_path_factory.mktemp("shop")
    make_project(folder)
    with (folder / "tidemill.toml").open("a") as file:
        file.write(ENVIRONMENTS)
    share_environments(open_control(folder), build_environments)
    tidemill(folder, "tokens", "create", "app", "--role", "predict")  # from now on, each request needs a token
    yield folder
    fleet = open_control(folder).resource(Fleet)
    for environment in ("test", "production"):
        for running in fleet.list_running(environment):
            fleet.stop(environment, running)


def open_control(folder: Path) -> Session:
    return open_session(Project(folder), "ci")


def promote(folder: Path, build: int, to: str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    return tidemill(folder, "deploy", "promote", str(build), "--to", to, "--reason", "because", code=code, **variables)


def serving(folder: Path, environment: str = "test") -> Deployment:
    found = find_healthy(open_control(folder).workspace.ledger, environment)
    assert found is not None
    return found


class Knocking:
    """Asks an address all the time, and counts what went wrong."""

    def __init__(self, address: str) -> None:
        self.address, self.asked, self.failures = address, 0, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._knock)

    def __enter__(self) -> "Knocking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _knock(self) -> None:
        while not self._stop.is_set():
            self.asked += 1
            self.failures += not is_healthy(self.address)
            time.sleep(0.01)


def wait_for_release(folder: Path, environment: str = "test") -> None:
    """Wait until the first model serves."""
    books = open_control(folder).workspace.ledger
    deadline = time.monotonic() + 300
    while not books.routes.find(environment=environment):
        assert time.monotonic() < deadline, [run.error for run in books.runs.find()]
        time.sleep(0.2)


def test_a_deployment_starts_a_training_and_answers(folder: Path) -> None:
    add_build(open_control(folder), 1)
    printed = promote(folder, 1, "test")
    assert "serves test at http://127.0.0.1:" in printed.stdout
    wait_for_release(folder)
    books = open_control(folder).workspace.ledger
    jobs = books.jobs.find(trigger="deployment")
    assert [(job.pipeline, job.environment) for job in jobs] == [("training", "test")]
    runs = books.runs.find(environment="test", pipeline="training")
    assert {run.code["build"] for run in runs} == {books.builds.find()[0].id}
    verdicts = {verdict.check: verdict.outcome for verdict in books.verdicts.find() if "→" in verdict.subject}
    assert verdicts == {"promotion": "pass", "infrastructure": "pass", "service": "pass"}


def test_the_next_build_replaces_it_without_a_refused_request(folder: Path) -> None:
    before = serving(folder)
    add_build(open_control(folder), 2)
    with Knocking(before.address) as knocking:
        promote(folder, 2, "test")
    now = serving(folder)
    assert (now.address, now.previous) == (before.address, before.id)
    assert knocking.asked > 20
    assert knocking.failures <= 1  # a connection in the queue of a socket that closes is reset by the kernel
    states = [deployment.state for deployment in list_deployments(open_control(folder).workspace.ledger, "test")]
    assert states == ["replaced", "healthy"]
    fleet = open_control(folder).resource(Fleet)
    assert fleet.list_running("test") == [now.id]


def refuse(folder: Path, build: int, environment: str, text: str, code: int = 3) -> None:
    """Promote a build that must be refused for a reason, while the present one keeps serving."""
    before = serving(folder)
    assert text in promote(folder, build, environment, code=code).stderr
    assert serving(folder) == before
    assert is_healthy(before.address)
    assert open_control(folder).resource(Fleet).list_running("test") == [before.id]


def next_build(folder: Path, **changes: Any) -> Build:
    session = open_control(folder)
    return add_build(session, len(session.workspace.ledger.builds.find()) + 1, **changes)


@pytest.mark.parametrize(
    ("environment", "text"),
    [
        ("small", "100,000,000 MB of memory are required"),
        ("accelerated", "an accelerator is required, and none is there"),
        ("limited", "the service does not become healthy"),  # the limit of its process is real
        ("nowhere", "there is no environment 'nowhere'"),
    ],
)
def test_an_unfit_machine_is_refused(folder: Path, environment: str, text: str) -> None:
    refuse(folder, 2, environment, text, code=2 if environment == "nowhere" else 3)


def test_a_missing_and_a_wrong_package_are_refused(folder: Path) -> None:
    build = next_build(folder, python="")
    session = open_control(folder)
    python = prepare_runtime(build, session.workspace.blobs.get, session.workspace.root / "builds").python
    site = next(python.parents[1].glob("lib/python*/site-packages"))
    information = next(site.glob("croniter-*"))
    text = (information / "METADATA").read_text()
    # The files are links into the cache of uv: they are replaced, not changed.
    (information / "METADATA").unlink()
    (information / "METADATA").write_text(text.replace("\nVersion: ", "\nVersion: 0."))
    refuse(folder, build.number, "test", "packages have other versions than the tested ones: croniter 0.")
    shutil.rmtree(information)
    refuse(folder, build.number, "test", "packages are missing: croniter")


def test_a_lock_that_cannot_be_installed_is_an_error(folder: Path) -> None:
    build = next_build(folder, packages=list_packages() | {"croniter": "0.0.1"})
    refuse(folder, build.number, "test", "cannot be built", code=1)


def test_a_build_that_cannot_start_is_refused(folder: Path) -> None:
    build = next_build(folder, files={"tidemill.toml": b"[project]\nname = 7\n"})
    refuse(folder, build.number, "test", "does not become healthy: tidemill.toml")


def test_other_answers_and_a_changed_byte_are_refused(folder: Path) -> None:
    """The service predicts what it did before, or gets no requests."""
    session = open_control(folder)
    blobs = session.workspace.root / "blobs"
    release = session.workspace.ledger.releases.find()[0]
    models = next(file for file in blobs.rglob("*") if file.is_file() and release.package in str(file).replace("/", ""))
    original = models.read_bytes()
    models.chmod(0o644)
    models.write_bytes(original[:-1] + bytes([original[-1] ^ 1]))
    try:
        refuse(folder, next_build(folder).number, "test", release.label)
    finally:
        models.write_bytes(original)


def test_production_is_refused_with_what_is_missing_and_then_approved(folder: Path) -> None:
    printed = promote(folder, 2, "production", code=3)
    assert "0 of 1 approvals of people who did not write it" in printed.stderr
    assert "deploy approve 2 --to production" in printed.stderr
    refused = promote(folder, 1, "production", code=3)
    assert "not healthy in test" in refused.stderr
    tidemill(folder, "deploy", "approve", "2", "--to", "production", "--reason", "read it")
    promote(folder, 2, "production")
    assert serving(folder, "production").address != serving(folder).address
    entries = {entry.action for entry in open_control(folder).workspace.ledger.audit.find()}
    assert {"approved build", "promoted build"} <= entries


def test_a_process_that_dies_is_started_again(folder: Path) -> None:
    before = serving(folder)
    os.kill(process_of(folder, before), signal.SIGKILL)
    wait_until(lambda: not is_healthy(before.address))
    assert "start" in tidemill(folder, "deploy", "diff", code=1).stdout
    assert "started" in tidemill(folder, "deploy", "reconcile").stdout
    assert is_healthy(before.address)
    assert "start" not in tidemill(folder, "deploy", "diff").stdout


def test_a_rollback_brings_the_build_before_and_pauses_automation(folder: Path) -> None:
    assert open_control(folder).workspace.ledger.builds.get(serving(folder).build).number == 2
    printed = tidemill(folder, "deploy", "rollback", "test", "--reason", "wrong")
    assert "automation in test is paused" in printed.stderr
    now = serving(folder)
    assert open_control(folder).workspace.ledger.builds.get(now.build).number == 1
    assert now.change == "rollback"
    tidemill(folder, "deploy", "resume", "test", "--reason=test")


@pytest.mark.parametrize(
    "point",
    [
        "deployed process is started",
        "deployment is starting",
        "deployment is ready",
        "deployment is judged",
        "deployment is public",
        "deployment is recorded",
    ],
)
def test_a_killed_deployment_is_resumed(folder: Path, point: str) -> None:
    """Kill the deploying process at a point; the run is resumed, and exactly one process serves."""
    build = next_build(folder)
    before = serving(folder)
    command = [
        sys.executable,
        "-m",
        "tidemill",
        "deploy",
        "promote",
        str(build.number),
        "--to",
        "test",
        "--reason",
        "because",
    ]
    killed = subprocess.run(
        command, cwd=folder, env=os.environ | {"TIDEMILL_FAULT": point}, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert is_healthy(before.address)
    books = open_control(folder).workspace.ledger
    run = books.runs.find(pipeline="deployment", newest=True, limit=1)[0]
    if point in ("deployment is public", "deployment is recorded"):  # as if the code of the step had changed meanwhile
        started = next(step for step in books.steps.find(run=run.id) if step.step == "start_service")
        books.steps.change(started.id, lambda step: replace(step, key="of other code"))
    tidemill(folder, "runs", "resume", run.id)
    now = serving(folder)
    assert now.build == build.id
    assert now.address == before.address
    assert open_control(folder).resource(Fleet).list_running("test") == [now.id]


def process_of(folder: Path, deployment: Deployment) -> int:
    root = open_control(folder).workspace.root / "environments" / deployment.environment / "deployments"
    return int(json.loads((root / deployment.id / "process.json").read_text())["process"])


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
