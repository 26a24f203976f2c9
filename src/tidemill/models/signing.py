"""Signatures of model packages, in the format of OpenSSF model-signing: a Sigstore bundle over the files' digests.

`model_signing verify key` verifies an exported package with the same signature. Source: https://github.com/sigstore/model-transparency.
"""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from tidemill.core.model import Model
from tidemill.errors import Corrupt, InputError, MissingExtra
from tidemill.host import keys
from tidemill.models.flavors.mlflow import ROOT

SIGNATURE = "model.sig"
MANIFEST = "manifest.json"
# The differences in the messages of model-signing.
_DIFFERENCES = {
    "changed": r"Hash mismatch for '([^']+)'",
    "added": r"Extra files found in model '[^']*': ([^\"']+)",
    "removed": r"Missing files in model '[^']*': ([^\"']+)",
}


def list_signed_files(model: Model) -> dict[str, bytes]:
    """Return the files that a signature covers: those of an export, with the manifest."""
    files = model.files
    if model.manifest.flavor == "mlflow":
        files = {name.removeprefix(ROOT): content for name, content in files.items()}
    return files | {MANIFEST: msgspec.json.format(msgspec.json.encode(model.manifest))}


def sign_package(model: Model, key: Path) -> bytes:
    """Return the signature of a package.

    Raises
    ------
    MissingExtra
        if `model-signing` is not installed.
    InputError
        if the file is no private key of ECDSA, which is what model-signing supports.
    """
    signing = _import_module("signing")
    if not hasattr(keys.read_private_key(key), "curve"):
        raise InputError(f"the private key {key} is Ed25519, and model-signing needs ECDSA", keys.CREATE_KEY)
    with _unpack(model) as folder:
        target = folder.parent / SIGNATURE
        signing.Config().use_elliptic_key_signer(private_key=key.expanduser()).sign(folder, target)
        return target.read_bytes()


def verify_package(model: Model, signature: bytes, public_key: bytes, name: str) -> None:
    """Raise unless a signature of a package, called `name`, was made by the owner of a public key in PEM format.

    Raises
    ------
    MissingExtra
        if `model-signing` is not installed.
    InputError
        if it is no public key.
    Corrupt
        if the signature is about other files, or was made by another key.
    """
    verifying = _import_module("verifying")
    keys.parse_public_key(public_key, "public_key under [signing]")
    with _unpack(model) as folder:
        file, key = folder.parent / SIGNATURE, folder.parent / "public_key.pem"
        file.write_bytes(signature)
        key.write_bytes(public_key)
        try:
            config = verifying.Config().use_elliptic_key_verifier(public_key=key)
            config.verify(folder, file)
        except Exception as error:
            raise Corrupt(
                f"the signature of {name} is not valid: {_describe(error)}",
                f"do not use this package; if you trust it, sign it: `tidemill models sign {name} --reason …`",
            ) from error


def _describe(error: Exception) -> str:
    """Return why a signature is not valid: the files that differ, or the key."""
    text = str(error)
    found = [
        f"{name} was {state}"
        for state, pattern in _DIFFERENCES.items()
        for names in re.findall(pattern, text)
        for name in names.split(", ")
    ]
    if found:
        return ", ".join(found)
    if not text or "Key mismatch" in text:
        return "it was made by another key"
    return text.splitlines()[0].rstrip(". ")


def _import_module(name: str) -> Any:
    """Import a module of model-signing, which takes half a second."""
    try:
        if name == "signing":
            from model_signing import signing

            return signing
        from model_signing import verifying
    except ImportError:
        raise MissingExtra("model-signing", "signing") from None
    return verifying


@contextmanager
def _unpack(model: Model) -> Iterator[Path]:
    """Write the files of a package to a temporary folder with the name of the model.

    Raises
    ------
    Corrupt
        if the path of a file leads out of the folder.
    """
    with tempfile.TemporaryDirectory(prefix="tidemill-signing-") as temporary:
        folder = Path(temporary) / "package"
        folder.mkdir()
        for name, content in list_signed_files(model).items():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not path.parts:
                raise Corrupt(f"the package has a file with the path {name!r}", "do not use this package")
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
        yield folder
