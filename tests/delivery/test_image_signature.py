"""Signatures of container images: OpenSSL verifies them, a registry keeps them, and whatever was altered is refused."""

import base64
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests import parts
from tests.delivery.repositories import open_registry
from tests.keys import make_key
from tidemill.compose.backends import open_workspace
from tidemill.compose.signing import KeySigner
from tidemill.delivery.image import load_digest, push_image
from tidemill.delivery.image_signature import read_signatures, require_signed_image, sign_image, write_payload
from tidemill.delivery.oci import Layout
from tidemill.errors import ConfigurationError, Corrupt, TidemillError
from tidemill.host.containers import find_container_runtime
from tidemill.project.project import Project


def open_signer(folder: Path, key: Path | None, public: Path | None) -> KeySigner:
    folder.mkdir(exist_ok=True)
    settings = [f'key = "{key}"'] if key else []
    settings += [f'public_key = "{public}"'] if public else []
    (folder / "tidemill.toml").write_text("\n".join(['[project]\nname = "kit"', "[signing]", *settings, ""]))
    project = Project(folder)
    return KeySigner(project, open_workspace(folder / ".tidemill", "ci"))


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "keys").mkdir()
    return make_key(tmp_path / "keys", "own", "p256")


@pytest.fixture
def signer(tmp_path: Path, keys: tuple[Path, Path]) -> KeySigner:
    return open_signer(tmp_path / "kit", *keys)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "images")


@pytest.fixture
def image(layout: Layout) -> str:
    layer = layout.write_layer({"/a": b"content"})
    return layout.write_image("kit:1", [layer], {"Entrypoint": ["/a"]}, "2026-01-01T00:00:00Z")


def test_a_signature_has_the_format_of_cosign(
    layout: Layout, image: str, signer: KeySigner, keys: tuple[Path, Path], tmp_path: Path
) -> None:
    assert sign_image(signer, layout, "kit", image)
    assert sign_image(signer, layout, "kit", image)  # once is enough
    index = json.loads((layout.folder / "index.json").read_bytes())["manifests"]
    named = {entry["annotations"]["org.opencontainers.image.ref.name"]: entry["digest"] for entry in index}
    manifest = json.loads(layout.blob(named[f"kit:{image.replace(':', '-')}.sig"]).read_bytes())
    (layer,) = manifest["layers"]
    assert layer["mediaType"] == "application/vnd.dev.cosign.simplesigning.v1+json"
    payload, signature = tmp_path / "payload", tmp_path / "signature"
    payload.write_bytes(layout.blob(layer["digest"]).read_bytes())
    signature.write_bytes(base64.b64decode(layer["annotations"]["dev.cosignproject.cosign/signature"]))
    critical = json.loads(payload.read_bytes())["critical"]
    assert critical["image"]["docker-manifest-digest"] == image
    assert critical["type"] == "cosign container image signature"
    command = ("openssl", "dgst", "-sha256", "-verify", str(keys[1]), "-signature", str(signature), str(payload))
    assert "Verified OK" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    require_signed_image(signer, layout, "kit", image)


def test_signatures_go_with_the_image_to_a_registry_and_back(
    layout: Layout, image: str, signer: KeySigner, tmp_path: Path
) -> None:
    require_tools("skopeo")
    with open_registry() as address:
        push_image(layout, "kit:1", f"{address}/team/kit:1")
        sign_image(signer, layout, "kit", image, f"{address}/team")
        elsewhere = Layout(tmp_path / "elsewhere")
        require_signed_image(signer, elsewhere, "kit", image, f"{address}/team")
        with pytest.raises(Corrupt, match="is not signed"):
            require_signed_image(signer, elsewhere, "kit", image.replace("a", "b"), f"{address}/team")


def test_what_is_not_signed_by_the_key_is_refused(
    layout: Layout, image: str, signer: KeySigner, tmp_path: Path
) -> None:
    with pytest.raises(Corrupt, match="is not signed, and this environment starts only signed images"):
        require_signed_image(signer, layout, "kit", image)
    other = open_signer(tmp_path / "other", *make_key(tmp_path / "keys", "other", "p256"))
    sign_image(other, layout, "kit", image)
    with pytest.raises(Corrupt, match="signed by another key"):
        require_signed_image(signer, layout, "kit", image)
    sign_image(signer, layout, "kit", image)  # beside the other one
    assert len(read_signatures(layout, f"kit:{image.replace(':', '-')}.sig")) == 2
    require_signed_image(signer, layout, "kit", image)
    without = open_signer(tmp_path / "without", None, None)
    assert not sign_image(without, layout, "kit", image)
    with pytest.raises(ConfigurationError, match="there is no public key"):
        require_signed_image(without, layout, "kit", image)


def test_the_signature_of_another_image_is_refused(layout: Layout, image: str, signer: KeySigner) -> None:
    """Whoever can write into the layout or the registry can name a signature as he likes."""
    other = f"sha256:{'0' * 64}"
    sign_image(signer, layout, "kit", other)
    index = layout.folder / "index.json"
    index.write_text(index.read_text().replace(f"kit:{other.replace(':', '-')}", f"kit:{image.replace(':', '-')}"))
    assert read_signatures(layout, f"kit:{image.replace(':', '-')}.sig")[0].payload == write_payload(other, "kit")
    with pytest.raises(Corrupt, match="about another image"):
        require_signed_image(signer, layout, "kit", image)


def test_an_altered_image_is_not_loaded(layout: Layout, image: str, tmp_path: Path) -> None:
    require_tools("podman", "skopeo")
    manifest = json.loads(layout.blob(image).read_bytes())
    with parts.containers(tmp_path):
        containers = find_container_runtime()
        for digest in (image, manifest["config"]["digest"], manifest["layers"][0]["digest"]):
            blob = layout.blob(digest)
            before = blob.read_bytes()
            blob.write_bytes(before.replace(b"content", b"altered") if b"content" in before else before + b" ")
            with pytest.raises(TidemillError) as refused:
                load_digest(containers, layout, "kit", image)
            expected = "Digest did not match" if b"content" in before else "was changed"
            assert expected in str(refused.value)
            blob.write_bytes(before)
        assert load_digest(containers, layout, "kit", image)


def test_signatures_are_pruned_with_their_images(layout: Layout, image: str, signer: KeySigner) -> None:
    sign_image(signer, layout, "kit", image)
    layer = layout.write_layer({"/b": b"more"})
    later = layout.write_image("kit:2", [layer], {}, "2026-01-01T00:00:00Z")
    sign_image(signer, layout, "kit", later)
    layout.prune(1)
    index = json.loads((layout.folder / "index.json").read_bytes())["manifests"]
    names = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in index]
    assert names == ["kit:2", f"kit:{later.replace(':', '-')}.sig"]


def require_tools(*tools: str) -> None:
    for tool in tools:
        if shutil.which(tool) is None:
            pytest.skip(f"not on this machine: {tool} (scripts/install-system-parts)")
