"""Signatures of packages: each change of a package is named, and OpenSSF's own program verifies an export."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.keys import make_key
from tests.serving.kit import package
from tidemill.core.model import Model
from tidemill.errors import Corrupt, InputError
from tidemill.models.signing import list_signed_files, sign_package, verify_package

Keys = tuple[Path, Path]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """A private key and its public key."""
    return make_key(tmp_path_factory.mktemp("keys"), "a", "p256")


@pytest.fixture(scope="module")
def model() -> Model:
    """A package with samples."""
    return package(samples=[{"carrier": "UA", "distance": 1.0, "delay": 2}])


@pytest.fixture(scope="module")
def signature(model: Model, keys: Keys) -> bytes:
    """The signature of the package."""
    return sign_package(model, keys[0])


def test_a_signed_package_is_verified(model: Model, signature: bytes, keys: Keys) -> None:
    verify_package(model, signature, keys[1].read_bytes(), "flights/1")


def change_a_byte(model: Model) -> Model:
    content = model.files["model.txt"]
    return replace(model, files=model.files | {"model.txt": content[:-1] + bytes([content[-1] ^ 1])})


def change_the_manifest(model: Model) -> Model:
    return replace(model, manifest=replace(model.manifest, trusted=False))


def add_code(model: Model) -> Model:
    return replace(model, files=model.files | {"code/evil.py": b"import os"})


def remove_the_samples(model: Model) -> Model:
    return replace(model, files={name: content for name, content in model.files.items() if name != "samples.json"})


@pytest.mark.parametrize(
    ("alter", "reason"),
    [
        (change_a_byte, "model.txt was changed"),
        (change_the_manifest, "manifest.json was changed"),
        (add_code, "code/evil.py was added"),
        (remove_the_samples, "samples.json was removed"),
    ],
)
def test_each_difference_is_named(
    model: Model, signature: bytes, keys: Keys, alter: Callable[[Model], Model], reason: str
) -> None:
    with pytest.raises(Corrupt, match=f"the signature of flights/1 is not valid: {reason} —"):
        verify_package(alter(model), signature, keys[1].read_bytes(), "flights/1")


def test_another_key_is_refused(model: Model, signature: bytes, tmp_path: Path) -> None:
    _, other = make_key(tmp_path, "b", "p256")
    with pytest.raises(Corrupt, match="it was made by another key"):
        verify_package(model, signature, other.read_bytes(), "flights/1")


def test_a_signature_that_claims_the_right_key_is_refused(
    model: Model, signature: bytes, keys: Keys, tmp_path: Path
) -> None:
    """The key's fingerprint in a signature is only a hint: the signature itself decides."""
    from tidemill.host.keys import fingerprint, read_public_key

    key, other = make_key(tmp_path, "b", "p256")
    forged = sign_package(model, key).replace(
        fingerprint(read_public_key(other)).encode(), fingerprint(read_public_key(keys[1])).encode()
    )
    with pytest.raises(Corrupt, match="is not valid"):
        verify_package(model, forged, keys[1].read_bytes(), "flights/1")


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"mediaType": "x"}'])
def test_bytes_that_are_no_signature_are_refused(model: Model, keys: Keys, content: bytes) -> None:
    with pytest.raises(Corrupt, match="the signature of flights/1 is not valid"):
        verify_package(model, content, keys[1].read_bytes(), "flights/1")


@pytest.mark.parametrize("name", ["../evil.py", "/tmp/evil.py", "code/../../evil.py"])
def test_a_path_that_leads_out_of_the_package_is_refused(model: Model, signature: bytes, keys: Keys, name: str) -> None:
    with pytest.raises(Corrupt, match="has a file with the path"):
        verify_package(replace(model, files=model.files | {name: b"x"}), signature, keys[1].read_bytes(), "flights/1")


def test_an_ed25519_key_is_refused_because_model_signing_needs_ecdsa(model: Model, tmp_path: Path) -> None:
    key, _ = make_key(tmp_path, "ed", "ed25519")
    with pytest.raises(InputError, match="model-signing needs ECDSA"):
        sign_package(model, key)


def test_the_program_of_openssf_verifies_an_exported_package(
    model: Model, signature: bytes, keys: Keys, tmp_path: Path
) -> None:
    folder = tmp_path / "exported"
    for name, content in list_signed_files(model).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "model.sig").write_bytes(signature)
    words = (sys.executable, "-m", "model_signing", "verify", "key", "--signature", str(folder / "model.sig"))
    command = (*words, "--public_key", str(keys[1]), str(folder))
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode == 0
    (folder / "model.txt").write_bytes(b"another model")
    assert subprocess.run(command, capture_output=True, text=True, check=False).returncode != 0
