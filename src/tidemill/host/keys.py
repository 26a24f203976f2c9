"""Signing keys: PEM files outside the project and its workspace."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from tidemill.errors import ConfigurationError, InputError, MissingExtra

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey
    PublicKey = Ed25519PublicKey | EllipticCurvePublicKey

CREATE_KEY = "create one outside the project: `openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out KEY`"


def require_signing() -> None:
    """Raise `MissingExtra` if the packages of the extra `signing` are not installed."""
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise MissingExtra("cryptography", "signing") from None


def require_outside(key: Path, folders: Iterable[Path]) -> None:
    """Raise `ConfigurationError` if a private key is in one of the folders, where copies and backups would have it."""
    resolved = key.expanduser().resolve()
    for folder in folders:
        if resolved.is_relative_to(folder.resolve()):
            raise ConfigurationError(
                f"the private key {key} is inside {folder}, whose copies and backups would contain it",
                "move it to a folder that only you can read, and create a new one if it was committed",
            )


def find_repository(folder: Path) -> Path:
    """Return the root of the repository that contains a folder; the folder itself outside a repository."""
    candidates = (folder.resolve(), *folder.resolve().parents)
    return next((parent for parent in candidates if (parent / ".git").exists()), folder)


def read_private_key(file: Path) -> "PrivateKey":
    """Return the private key in a PEM file: Ed25519, or ECDSA with a NIST curve.

    Raises
    ------
    MissingExtra
        if `cryptography` is not installed.
    InputError
        if the file cannot be read, has a password, or is no such key.
    """
    require_signing()
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = _read(file, "private")
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError:
        raise InputError(
            f"the private key {file} has a password", "use a key without one, in a folder of its own"
        ) from None
    except ValueError:
        raise InputError(f"{file} is no private key in PEM format", CREATE_KEY) from None
    if not isinstance(key, Ed25519PrivateKey | EllipticCurvePrivateKey):
        raise InputError(f"the private key {file} is neither Ed25519 nor ECDSA", CREATE_KEY)
    return key


def read_public_key(file: Path) -> "PublicKey":
    """Return the public key in a PEM file; the errors are those of `read_private_key`."""
    require_signing()
    return parse_public_key(_read(file, "public"), str(file))


def parse_public_key(content: bytes, name: str) -> "PublicKey":
    """Return a public key in PEM format; raise `InputError` if it is none."""
    require_signing()
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    cure = "write it with `openssl pkey -in KEY -pubout -out PUBLIC_KEY`"
    if b"PRIVATE KEY" in content:
        raise InputError(f"{name} is a private key; a public key is needed here", cure)
    try:
        key = load_pem_public_key(content)
    except ValueError:
        raise InputError(f"{name} is no public key in PEM format", cure) from None
    if not isinstance(key, Ed25519PublicKey | EllipticCurvePublicKey):
        raise InputError(f"the public key {name} is neither Ed25519 nor ECDSA", CREATE_KEY)
    return key


def sign_bytes(key: "PrivateKey", content: bytes) -> bytes:
    """Return a signature; equal bytes have an equal signature."""
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.hashes import SHA256

    if isinstance(key, Ed25519PrivateKey):
        return key.sign(content)
    return key.sign(content, ECDSA(SHA256(), deterministic_signing=True))


def is_signed_by(key: "PublicKey", signature: bytes, content: bytes) -> bool:
    """Return whether a signature of bytes was made by the owner of a public key."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, content)
        else:
            key.verify(signature, content, ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def to_pem(key: "PublicKey") -> bytes:
    """Return a public key in PEM format."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def fingerprint(key: "PublicKey") -> str:
    """Return the SHA-256 of a public key in PEM format, as OpenSSF model-signing writes it."""
    return hashlib.sha256(to_pem(key)).hexdigest()


def _read(file: Path, kind: str) -> bytes:
    try:
        return file.expanduser().read_bytes()
    except OSError as error:
        cure = CREATE_KEY if kind == "private" else "check the path; a deployed build needs the key as text"
        raise InputError(f"the {kind} key {file} cannot be read: {error.strerror}", cure) from None
