"""The seal of an evidence file: an in-toto statement on its files, in a signed DSSE envelope.

Source: https://github.com/secure-systems-lab/dsse (protocol version 1) and in-toto's statement, version 1.
"""

import base64
from collections.abc import Mapping
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from tidemill.errors import Corrupt
from tidemill.evidence.export.provenance import STATEMENT_TYPE
from tidemill.host import keys

STATEMENT, SIGNATURE = "manifest.json", "signature.json"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
PREDICATE_TYPE = "urn:tidemill:evidence:v1"


class EnvelopeSignature(Struct, frozen=True, kw_only=True):
    """A signature and the fingerprint of its key."""

    keyid: str
    sig: str


class Envelope(Struct, frozen=True, kw_only=True, rename={"payload_type": "payloadType"}):
    """A DSSE envelope; `public_key` is a hint for a reader, and proves nothing by itself."""

    payload: str
    payload_type: str
    signatures: tuple[EnvelopeSignature, ...]
    public_key: str = ""


class Subject(Struct, frozen=True, kw_only=True):
    """A file of the archive and its digest."""

    name: str
    digest: dict[str, str]


class SealStatement(Struct, frozen=True, kw_only=True, rename={"predicate_type": "predicateType", "kind": "_type"}):
    """The statement of the seal: the files of the archive, and the release that they are about."""

    kind: str
    subject: tuple[Subject, ...]
    predicate_type: str
    predicate: dict[str, Any]

    @property
    def digests(self) -> dict[str, str]:
        """Return the SHA-256 of each file."""
        return {subject.name: subject.digest.get("sha256", "") for subject in self.subject}


def seal_files(files: Mapping[str, bytes], predicate: Mapping[str, Any], key: Path | None) -> dict[str, bytes]:
    """Return the statement on the files, and its signature if there is a key."""
    signer = keys.read_private_key(key) if key is not None else None
    subjects = [{"name": name, "digest": {"sha256": sha256(files[name]).hexdigest()}} for name in sorted(files)]
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": subjects,
        "predicateType": PREDICATE_TYPE,
        "predicate": {**predicate, "tidemill": version("tidemill"), "signed": signer is not None},
    }
    payload = encode(statement)
    return {STATEMENT: payload} | ({SIGNATURE: encode(sign_payload(payload, signer))} if signer is not None else {})


def sign_payload(payload: bytes, signer: "keys.PrivateKey") -> Envelope:
    """Return a statement in a signed envelope."""
    public = signer.public_key()
    signature = keys.sign_bytes(signer, encode_for_signature(PAYLOAD_TYPE, payload))
    part = EnvelopeSignature(keyid=keys.fingerprint(public), sig=base64.b64encode(signature).decode())
    return Envelope(
        payload=base64.b64encode(payload).decode(),
        payload_type=PAYLOAD_TYPE,
        signatures=(part,),
        public_key=keys.to_pem(public).decode(),
    )


def read_statement(content: bytes) -> SealStatement:
    """Return the statement of an evidence file; raise `Corrupt` if it is none."""
    try:
        statement = msgspec.json.decode(content, type=SealStatement)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"{STATEMENT} is no statement on files: {error}", "export the evidence again") from None
    if statement.kind != STATEMENT_TYPE or statement.predicate_type != PREDICATE_TYPE:
        raise Corrupt(f"{STATEMENT} is no statement on evidence: {statement.predicate_type}", "choose another file")
    return statement


def read_envelope(content: bytes) -> Envelope:
    """Return the envelope of a signature; raise `Corrupt` if it is none."""
    try:
        return msgspec.json.decode(content, type=Envelope)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"{SIGNATURE} is no signature: {error}", "export the evidence again") from None


def find_seal_problem(statement: bytes, envelope: Envelope, public_key: bytes) -> str:
    """Return why an envelope is not a signature of the statement by the owner of a public key; empty if it is."""
    try:
        payload = base64.b64decode(envelope.payload, validate=True)
        signatures = [base64.b64decode(part.sig, validate=True) for part in envelope.signatures]
    except ValueError:
        return f"{SIGNATURE} is not in base64"
    if payload != statement or envelope.payload_type != PAYLOAD_TYPE:
        return f"{SIGNATURE} is about another {STATEMENT}"
    key = keys.parse_public_key(public_key, "the public key")
    content = encode_for_signature(envelope.payload_type, payload)
    if not any(keys.is_signed_by(key, signature, content) for signature in signatures):
        return f"the signature was not made by the key {keys.fingerprint(key)[:16]}, or the content was changed"
    return ""


def encode_for_signature(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: DSSE's pre-authentication encoding.

    >>> encode_for_signature("text", b"hello")
    b'DSSEv1 4 text 5 hello'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def encode(value: Any) -> bytes:
    """Return a value as JSON; equal values have equal bytes."""
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2) + b"\n"
