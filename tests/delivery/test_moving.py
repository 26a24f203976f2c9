"""Settings of an environment that change: `deploy diff` shows it, and one service at a time serves, never none."""

import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.delivery.builds import add_build, share_environments
from tests.delivery.test_deploying import Knocking, open_control, promote, serving
from tests.projects import make_project, tidemill
from tidemill.core.fleet import Fleet
from tidemill.delivery.fleet import DeploymentFleet
from tidemill.delivery.local import LocalTarget
from tidemill.errors import ConfigurationError
from tidemill.flow.engine import run
from tidemill.project.project import Project
from tidemill.recipes.deploying import deployment

ENVIRONMENT = """
[environments.test]
kind = "test"
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, build_environments: Path) -> Iterator[Path]:
    """A project whose build 1 serves the environment `test`; what runs is stopped at the end."""
    folder = tmp_path_factory.mktemp("moving") / "shop"
    make_project(folder)
    with (folder / "tidemill.toml").open("a") as file:
        file.write(ENVIRONMENT)
    share_environments(open_control(folder), build_environments)
    tidemill(folder, "tokens", "create", "app", "--role", "predict")
    add_build(open_control(folder), 1)
    promote(folder, 1, "test")
    yield folder
    fleet = open_control(folder).resource(Fleet)
    for running in fleet.list_running("test"):
        fleet.stop("test", running)


def set_environment(folder: Path, *lines: str) -> None:
    """Replace the settings of the environment `test`."""
    policy = folder / "tidemill.toml"
    text = policy.read_text()
    policy.write_text(text[: text.index("\n[environments.test]")] + ENVIRONMENT + "\n".join(lines) + "\n")


def test_settings_that_change_are_shown_and_mended_by_a_deployment(folder: Path) -> None:
    before = serving(folder)
    assert "none" in tidemill(folder, "deploy", "diff").stdout
    set_environment(folder, 'variables = { GREETING = "hello" }')
    assert "move" in tidemill(folder, "deploy", "diff", code=1).stdout
    with Knocking(before.address) as knocking:
        assert "its settings changed: variables" in tidemill(folder, "deploy", "reconcile").stdout
    assert knocking.failures <= 1  # a connection in the queue of a socket that closes is reset by the kernel
    now = serving(folder)
    assert (now.build, now.change, now.previous) == (before.build, "move", before.id)
    assert open_control(folder).resource(Fleet).list_running("test") == [now.id]
    assert "none" in tidemill(folder, "deploy", "diff").stdout
    entries = open_control(folder).workspace.ledger.audit.find(action="moved build")
    assert [entry.reason for entry in entries] == ["its settings changed: variables"]


def test_a_target_that_refuses_changes_nothing(folder: Path) -> None:
    before = serving(folder)
    set_environment(folder, 'target = "container"')
    assert "target local → container" in tidemill(folder, "deploy", "diff", code=1).stdout
    assert "no container image" in tidemill(folder, "deploy", "reconcile", code=2).stderr
    assert serving(folder) == before
    assert httpx.get(f"{before.address}/health", timeout=60).status_code == 200
    set_environment(folder)
    assert open_control(folder).resource(Fleet).list_running("test") == [before.id]


def test_another_target_takes_over_and_the_old_one_ends(folder: Path) -> None:
    """The second target is one of this machine, too, with folders of its own."""
    before = serving(folder)
    set_environment(folder, 'target = "container"')
    session = open_control(folder)
    root, policy = session.workspace.root, session.project.policy
    other = root / "other target"
    targets = {"local": LocalTarget, "container": lambda _: LocalTarget(other)}
    fleet = DeploymentFleet(policy, root, folder, session.workspace.blobs.get, session.clock, targets, folder)
    session.register(Fleet, lambda: fleet)
    params = {"environment": "test", "build": before.build, "by": "ada", "reason": "a move", "change": "move"}
    with Knocking(before.address) as knocking:
        _, failed = run(session, deployment, params, engine="inline")
    assert failed is None
    now = serving(folder)
    assert (now.target, now.address) == ("container", before.address)
    assert knocking.failures <= 1  # a connection in the queue of a socket that closes is reset by the kernel
    assert LocalTarget(root).list_running("test") == []
    assert LocalTarget(other).list_running("test") == [now.id]
    set_environment(folder)
    again = open_control(folder)
    back = DeploymentFleet(
        again.project.policy, root, folder, session.workspace.blobs.get, session.clock, targets, folder
    )
    assert back.list_running("test") == [now.id], "also on the target that is not in the policy any more"
    again.register(Fleet, lambda: back)
    _, failed = run(again, deployment, params, engine="inline")
    assert failed is None
    assert LocalTarget(other).list_running("test") == []
    assert LocalTarget(root).list_running("test") == [serving(folder).id]


def test_tls_and_the_address_of_an_environment_reach_its_service(folder: Path) -> None:
    certificate, key = folder / "service.pem", folder / "service.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    set_environment(folder, 'tls_cert = "service.pem"', 'tls_key = "nothing.key"')
    before = serving(folder)
    wrong = tidemill(folder, "deploy", "reconcile", code=2)
    assert "nothing.key is not a file" in wrong.stderr
    assert serving(folder) == before
    set_environment(folder, 'tls_cert = "service.pem"', 'tls_key = "service.key"', 'host = "0.0.0.0"')
    tidemill(folder, "deploy", "reconcile")
    now = serving(folder)
    assert now.address.startswith("https://0.0.0.0:")
    port = now.address.rpartition(":")[2]
    trusted = ssl.create_default_context(cafile=str(certificate))
    with httpx.Client(verify=trusted, base_url=f"https://127.0.0.1:{port}", timeout=60) as client:
        assert client.get("/health").status_code == 200
        assert client.post("/predict/shop", json={"rows": []}).status_code == 401, "any other address needs tokens"


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ('host = "0.0.0.0"', "environments.test.host: others could read the tokens"),
        ('host = "example.org"', "is not an IP address"),
        ('tls_cert = "a.pem"', "environments.test.tls_key is missing"),
        ('tls_key = "a.key"', "environments.test.tls_cert is missing"),
        ('target = "kubernetes"\ntls_cert = "a.pem"\ntls_key = "a.key"', "tls_cert has no effect on Kubernetes"),
    ],
)
def test_an_address_without_protection_is_an_error_of_the_policy(tmp_path: Path, lines: str, problem: str) -> None:
    make_project(tmp_path / "shop")
    with (tmp_path / "shop" / "tidemill.toml").open("a") as file:
        file.write(f"{ENVIRONMENT}{lines}\n")
    with pytest.raises(ConfigurationError, match=r"tidemill\.toml, line ") as wrong:
        Project(tmp_path / "shop")
    assert problem in wrong.value.problem
    assert wrong.value.cure
