"""An environment with `signed = true`: an unsigned or altered release is refused, and the champion keeps serving."""

from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from tests.keys import make_key
from tests.projects import make_project, tidemill
from tests.serving.kit import MODEL, ROW, ServingKit, package, running, until
from tidemill.clock import SystemClock
from tidemill.compose.signing import KeySigner
from tidemill.core.environment import Environment
from tidemill.core.model import Model
from tidemill.core.route import Arm
from tidemill.core.signing import Signing
from tidemill.errors import ConfigurationError, Corrupt
from tidemill.project.project import Project
from tidemill.serving.server import HttpServer


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose production environment demands signatures."""
    folder = tmp_path_factory.mktemp("signed")
    key, public = make_key(folder, "key", "p256")
    made = make_project(folder / "shop")
    policy = replace(
        made.policy,
        signing=Signing(key=str(key), public_key=str(public)),
        environments={"production": Environment(signed=True)},
    )
    return Project(made.folder, policy)


def arm(kit: ServingKit, signer: KeySigner, version: int, model: Model, signature: str | None = None) -> Arm:
    """Return an arm with the signature of its package, or with another one."""
    digest = signer.sign(model) if signature is None else signature
    return replace(kit.arm(version, model), signature=digest, share=1.0)


def test_the_champion_keeps_serving_when_an_unsigned_or_altered_release_is_routed(
    kit: ServingKit, project: Project
) -> None:
    signer = KeySigner(project, kit.workspace)
    good, altered = package(seed=1), package(seed=2)
    kit.route(arm(kit, signer, 1, good))
    server = HttpServer(kit.workspace, SystemClock(), port=0, signer=signer)
    server.start()
    try:
        answer(server, "flights/1")
        kit.route(arm(kit, signer, 2, altered, signature=""))
        refused(server, "flights/2 is not signed, and production loads only signed models")
        answer(server, "flights/1")
        kit.route(arm(kit, signer, 3, altered, signature=signer.sign(good)))
        refused(server, "the signature of flights/3 is not valid: model.txt was changed")
        answer(server, "flights/1")
        kit.route(arm(kit, signer, 4, altered, signature="f" * 64))
        refused(server, "the signature of flights/4 cannot be read")
        answer(server, "flights/1")
        kit.route(arm(kit, signer, 5, altered))
        until(lambda: not server.service.failures)
        answer(server, "flights/5")
    finally:
        server.stop()


def answer(server: HttpServer, release: str) -> None:
    """Assert that a release answers over HTTP."""
    reply = httpx.post(f"{server.address}/predict/{MODEL}", json={"rows": [ROW]}, timeout=30)
    assert reply.status_code == 200, reply.text
    assert reply.json()["release"] == release


def refused(server: HttpServer, problem: str) -> None:
    """Wait until the service has refused the route for a reason."""
    until(lambda: problem in str([failure.problem for failure in server.service.failures.values()]))


def test_an_environment_without_the_demand_serves_unsigned_releases(kit: ServingKit) -> None:
    kit.route(replace(kit.arm(1, package()), share=1.0))
    with running(kit) as (_, client):
        assert client.post(f"/predict/{MODEL}", json={"rows": [ROW]}).status_code == 200


def test_without_a_public_key_nothing_is_loaded(kit: ServingKit, project: Project) -> None:
    policy = replace(project.policy, signing=Signing(key=project.policy.signing.key))
    signer = KeySigner(Project(project.folder, policy), kit.workspace)
    model = package()
    with pytest.raises(ConfigurationError, match="there is no public key"):
        signer.verify(model, signer.sign(model), "flights/1")


def test_a_training_signs_its_release_and_a_person_signs_an_older_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, public = make_key(tmp_path, "key", "p256")
    project = make_project(tmp_path / "shop")
    tidemill(project.folder, "run", "training")
    file = project.folder / "tidemill.toml"
    settings = f'[signing]\nkey = "${{SHOP_SIGNING_KEY}}"\npublic_key = """\n{public.read_text()}"""\n'
    file.write_text(f"{file.read_text()}\n{settings}[environments.production]\nsigned = true\n")
    unsigned = tidemill(project.folder, "models", "promote", "shop/1", "--reason", "because", code=1).stderr
    assert "shop/1 is not signed" in unsigned
    file.write_text(file.read_text().replace("[training]", "[training]\nseed = 3\nparams = { bagging_fraction = 0.9 }"))
    stopped = tidemill(project.folder, "run", "training", code=1).stderr
    assert "shop/1 is not signed" in stopped, "a training does not load its champion either"
    monkeypatch.setenv("SHOP_SIGNING_KEY", str(key))
    tidemill(project.folder, "models", "sign", "shop/1", "--reason", "made before there was a key")
    tidemill(project.folder, "models", "promote", "shop/1", "--reason", "because")
    monkeypatch.delenv("SHOP_SIGNING_KEY")
    stopped = tidemill(project.folder, "run", "training", code=2).stderr
    assert "production loads only signed models, and there is no private key" in stopped
    monkeypatch.setenv("SHOP_SIGNING_KEY", str(key))
    assert "is signed by the key" in tidemill(project.folder, "models", "verify", "shop/1").stdout
    tidemill(project.folder, "run", "training")
    assert "is signed by the key" in tidemill(project.folder, "models", "verify", "shop/2").stdout
    tidemill(project.folder, "models", "export", "shop/2", "--to", str(tmp_path / "exported"))
    assert (tmp_path / "exported" / "model.sig").exists()
    tidemill(project.folder, "gc", "--apply")
    tidemill(project.folder, "models", "verify", "shop/2")
    inside = project.folder / "key.pem"
    inside.write_bytes(key.read_bytes())
    monkeypatch.setenv("SHOP_SIGNING_KEY", str(inside))
    assert "is inside" in tidemill(project.folder, "models", "sign", "shop/1", "--reason=test", code=2).stderr


def test_a_signature_of_another_project_is_refused(kit: ServingKit, project: Project, tmp_path: Path) -> None:
    signer, model = KeySigner(project, kit.workspace), package()
    key, _ = make_key(tmp_path, "other", "p256")
    policy = replace(project.policy, signing=Signing(key=str(key)))
    foreign = KeySigner(Project(project.folder, policy), kit.workspace).sign(model)
    with pytest.raises(Corrupt, match="it was made by another key"):
        signer.verify(model, foreign, "flights/1")


def test_a_key_that_is_a_secret_signs_and_a_key_in_the_policy_is_refused(
    kit: ServingKit, project: Project, tmp_path: Path
) -> None:
    key, public = make_key(tmp_path, "vault", "p256")
    signing = Signing(key=f"${{file:{key}}}", public_key=public.read_text())
    signer = KeySigner(Project(project.folder, replace(project.policy, signing=signing)), kit.workspace)
    model = package()
    signer.verify(model, signer.sign(model), "flights/1")
    signing = Signing(key=key.read_text(), public_key=public.read_text())
    with pytest.raises(ConfigurationError, match="the private key is in tidemill"):
        KeySigner(Project(project.folder, replace(project.policy, signing=signing)), kit.workspace).sign(model)
