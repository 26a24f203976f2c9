"""Heads of the audit log, signed with a key outside the workspace: they reveal entries that were deleted at its end.

Whoever can write the ledger can also write the whole chain again. A signed head that is kept elsewhere is the proof of
what the log was at its time.
"""

import os
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec
from msgspec import Struct

from tidemill.clock import Clock
from tidemill.core.audit import AuditEntry
from tidemill.errors import Corrupt, InputError, MissingExtra, TidemillError
from tidemill.ledger.ledger import Ledger

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_CURE = "create a key: `tidemill audit key FILE`"


class AuditHead(Struct, frozen=True, kw_only=True):
    """The end of an audit log at a time: the number of its entries and the hash of the last one."""

    project: str
    count: int
    hash: str
    time: datetime


class SignedHead(Struct, frozen=True, kw_only=True):
    """A head with its Ed25519 signature (Base64), and the SHA-256 of the public key that verifies it."""

    head: AuditHead
    signature: str
    key: str
    algorithm: str = "Ed25519"


def create_key(file: Path) -> Path:
    """Write a new private key to a file that only its owner can read, and the public key beside it; return that file.

    Raises
    ------
    InputError
        if one of the files exists or cannot be written.
    MissingExtra
        if the package `cryptography` is not installed.
    """
    serialization, ed25519 = _library()
    key = ed25519.Ed25519PrivateKey.generate()
    encoding, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, plain)
    public = key.public_key().public_bytes(encoding, serialization.PublicFormat.SubjectPublicKeyInfo)
    public_file = file.with_name(f"{file.name}.pub")
    for path, content, mode in ((file, private, 0o600), (public_file, public, 0o644)):
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as sink:
                sink.write(content)
        except OSError as error:
            raise InputError(
                f"the key {path} cannot be written: {error.strerror}", "choose another file in a writable folder"
            ) from None
    return public_file


def sign_head(last: AuditEntry | None, project: str, now: datetime, key: Path, workspace: Path) -> SignedHead:
    """Sign the end of the audit log with a private key.

    Raises
    ------
    InputError
        if the log is empty, the key is in the workspace, or the file has no Ed25519 key.
    """
    if last is None:
        raise InputError("the audit log has no entries", "sign it after the first decision")
    if key.resolve().is_relative_to(workspace.resolve()):
        raise InputError(
            f"the key {key} is in the workspace: whoever can change the log could sign it", "move it to another folder"
        )
    private = _load_private(key)
    head = AuditHead(project=project, count=last.number, hash=last.hash, time=now)
    signature = b64encode(private.sign(_to_signed_bytes(head))).decode()
    return SignedHead(head=head, signature=signature, key=_fingerprint(private.public_key()))


def read_head(file: Path) -> SignedHead:
    """Read a signed head; raise `InputError` if the file has none."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=SignedHead)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}", "use a file of `tidemill audit sign`") from None
    except msgspec.MsgspecError as error:
        raise InputError(f"{file} is not a signed head: {error}", "use a file of `tidemill audit sign`") from None


def verify_head(signed: SignedHead, public_key: Path, project: str) -> AuditHead:
    """Return the head after its signature was verified.

    Raises
    ------
    Corrupt
        if the signature is not of this key, the head was edited, or it belongs to another project.
    InputError
        if the file has no Ed25519 public key.
    """
    public = _load_public(public_key)
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(b64decode(signed.signature, validate=True), _to_signed_bytes(signed.head))
    except (InvalidSignature, ValueError):
        reason = (
            "another key has signed it" if signed.key != _fingerprint(public) else "it was edited after it was signed"
        )
        raise Corrupt(
            f"the signature of the head of {signed.head.time:%Y-%m-%d %H:%M} is wrong: {reason}",
            "use the public key of the person who signed it, and a head from a safe place",
        ) from None
    if signed.head.project != project:
        raise Corrupt(f"the head belongs to project {signed.head.project!r}, not to {project!r}", "use another head")
    return signed.head


def compare_with_head(head: AuditHead, found: str, count: int) -> str:
    """Return how an audit log of `count` entries differs from a head; empty if the log continues it.

    `found` is the hash of the log's entry with the number of the head's last entry; empty if there is none.
    """
    then = f"{head.time:%Y-%m-%d %H:%M:%S} UTC"
    if count < head.count or not found:
        return f"the log has {count} entries, and had {head.count} at {then}: entries were deleted"
    if found != head.hash:
        return f"entry {head.count} is not the one of {then}: the log was written again"
    return ""


def write_head(signed: SignedHead, file: Path) -> None:
    """Write a signed head to a file that does not exist yet; raise `InputError` if it cannot be written."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("xb") as sink:
            sink.write(msgspec.json.format(msgspec.json.encode(signed), indent=2) + b"\n")
    except FileExistsError:
        raise InputError(f"{file} exists: a signed head is never replaced", "choose another file") from None
    except OSError as error:
        raise InputError(f"{file} cannot be written: {error.strerror}", "choose a writable folder") from None


def export_from_settings(
    ledger: Ledger, project: str, clock: Clock, workspace: Path, warn: Callable[[str], object]
) -> Path | None:
    """Sign the head and write it to a folder, if TIDEMILL_AUDIT_KEY and TIDEMILL_AUDIT_HEADS name a key and a folder.

    It is called after decisions are in force, so an error is a warning. A head that was exported is not written again.
    """
    key, folder = os.environ.get("TIDEMILL_AUDIT_KEY", ""), os.environ.get("TIDEMILL_AUDIT_HEADS", "")
    if not key and not folder:
        return None
    try:
        if not key or not folder:
            raise InputError("only one of TIDEMILL_AUDIT_KEY and TIDEMILL_AUDIT_HEADS is set", "set both")
        last = ledger.audit.head()
        if last is None:
            return None
        file = Path(folder) / f"{project}-{last.number:08d}.json"
        if not file.exists():
            signed = sign_head(last, project, clock.now(), Path(key), workspace)
            try:
                write_head(signed, file)
            except InputError:
                if not file.exists():  # else another process exported it meanwhile
                    raise
        return file
    except TidemillError as error:
        warn(f"the decision is in force, but the head of the audit log was not exported: {error}")
        return None


def _to_signed_bytes(head: AuditHead) -> bytes:
    return b"tidemill audit head\n" + msgspec.json.encode(head, order="sorted")


def _library() -> Sequence[Any]:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise MissingExtra("cryptography", "signing") from None
    return serialization, ed25519


def _load_private(file: Path) -> "Ed25519PrivateKey":
    serialization, ed25519 = _library()
    key: Any = _load(file, lambda content: serialization.load_pem_private_key(content, password=None))
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return cast("Ed25519PrivateKey", key)
    raise InputError(f"{file} has no private Ed25519 key", _CURE)


def _load_public(file: Path) -> "Ed25519PublicKey":
    serialization, ed25519 = _library()
    key: Any = _load(file, serialization.load_pem_public_key)
    if isinstance(key, ed25519.Ed25519PublicKey):
        return cast("Ed25519PublicKey", key)
    raise InputError(f"{file} has no public Ed25519 key", _CURE)


def _load(file: Path, load: Any) -> Any:
    try:
        return load(file.read_bytes())
    except OSError as error:
        raise InputError(f"the key {file} cannot be read: {error.strerror}", _CURE) from None
    except (ValueError, TypeError) as error:
        raise InputError(f"{file} is not a key in PEM form without a password: {error}", _CURE) from None


def _fingerprint(public: "Ed25519PublicKey") -> str:
    return sha256(public.public_bytes_raw()).hexdigest()
