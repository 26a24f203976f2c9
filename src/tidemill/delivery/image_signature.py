"""Signatures of container images, in the format of cosign: beside the image, in the layout and in the registry.

The format is https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md: an image named
`sha256-DIGEST.sig`, whose layers are the signed texts, each with its signature as an annotation.
"""

import base64
import hashlib
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import Struct

from tidemill.core.ci import BuildHost, Ci
from tidemill.core.signing import ImageSigner
from tidemill.delivery.image import Image, copy_from_registry, copy_to_registry, find_layout
from tidemill.delivery.judgement import Judgement
from tidemill.delivery.oci import Layout, name_repository
from tidemill.errors import Corrupt, TidemillError

_MEDIA = "application/vnd.dev.cosign.simplesigning.v1+json"
_SIGNATURE = "dev.cosignproject.cosign/signature"
_TYPE = "cosign container image signature"


class Signature(Struct, frozen=True):
    """A signed text about an image, and its signature."""

    payload: bytes
    signature: bytes


def name_signature(project: str, digest: str) -> str:
    """Return the name of the signatures of an image in a layout, as cosign names them in a registry.

    >>> name_signature("Flights", "sha256:97fc")
    'flights:sha256-97fc.sig'
    """
    return f"{name_repository(project)}:{digest.replace(':', '-')}.sig"


def write_payload(digest: str, address: str = "") -> bytes:
    """Return the text that a signature of an image is about; `address` is its repository in a registry."""
    image = {"docker-manifest-digest": digest}
    critical = {"identity": {"docker-reference": address}, "image": image, "type": _TYPE}
    return msgspec.json.encode({"critical": critical, "optional": None})


def sign_image(signer: ImageSigner, layout: Layout, project: str, digest: str, registry: str = "") -> bool:
    """Sign an image, write the signature into the layout, and push it; return False if there is no private key.

    Raises
    ------
    TidemillError
        if the key cannot be used, or the signature cannot be pushed.
    """
    repository = f"{registry.rstrip('/')}/{name_repository(project)}" if registry else name_repository(project)
    payload = write_payload(digest, repository)
    signature = signer.sign_text(payload)
    if not signature:
        return False
    name = name_signature(project, digest)
    kept = dict.fromkeys([*read_signatures(layout, name), Signature(payload, signature)])
    layers, notes = [], []
    for each in kept:
        layers.append(layout.write_file(each.payload, _MEDIA))
        notes.append({_SIGNATURE: base64.b64encode(each.signature).decode()})
    layout.write_image(name, layers, {}, "1970-01-01T00:00:00Z", notes)
    if registry:
        copy_to_registry(layout, name, f"{repository}:{name.partition(':')[2]}")
    return True


def judge_signature(ci: Ci, host: BuildHost, signer: ImageSigner, project: str, image: Image) -> list[Judgement]:
    """Sign the image of a build; without an image or a private key, there is no judgement."""
    if not image.digest:
        return []
    registry = ci.registry if image.pushed else ""
    try:
        is_signed = sign_image(signer, find_layout(host), project, image.digest, registry)
    except TidemillError as failure:
        reason = f"the image is not signed: {failure.problem}"
        return [Judgement(check="ci_signature", outcome="undecided", reason=reason)]
    if not is_signed:
        return []
    evidence = {"digest": image.digest, "name": name_signature(project, image.digest)}
    reason = f"image {image.digest[:19]} is signed"
    return [Judgement(check="ci_signature", outcome="pass", reason=reason, evidence=evidence)]


def read_signatures(layout: Layout, name: str) -> list[Signature]:
    """Return the signatures with a name in a layout; a layer that is no signature is left out."""
    found = []
    for digest, notes in layout.list_annotations(name):
        with suppress(OSError, ValueError):
            payload = layout.blob(digest).read_bytes()
            if f"sha256:{hashlib.sha256(payload).hexdigest()}" == digest:
                found.append(Signature(payload, base64.b64decode(notes.get(_SIGNATURE, ""), validate=True)))
    return found


def require_signed_image(signer: ImageSigner, layout: Layout, project: str, digest: str, registry: str = "") -> None:
    """Raise unless an image has a signature by the key of the policy.

    Raises
    ------
    ConfigurationError
        if there is no public key.
    Corrupt
        if it is not signed, or only by another key, or only for another image.
    """
    name = name_signature(project, digest)
    signatures = read_signatures(layout, name)
    if not signatures and registry:
        with suppress(TidemillError):  # without a signature there, it is not signed
            copy_from_registry(layout, f"{registry.rstrip('/')}/{name}", name)
            signatures = read_signatures(layout, name)
    image = f"image {digest[:19]}"
    sign = "if you trust it, sign it: `tidemill ci sign BUILD --reason …`"
    if not signatures:
        raise Corrupt(f"{image} is not signed, and this environment starts only signed images", sign)
    about = [each for each in signatures if _find_digest(each.payload) == digest]
    if not about:
        raise Corrupt(f"the signatures of {image} are about another image", "do not start it; build the commit again")
    if not any(signer.verify_text(each.payload, each.signature) for each in about):
        raise Corrupt(f"{image} was signed by another key, or its signature was changed", sign)


def _find_digest(payload: bytes) -> str:
    """Return the digest in a signed text; empty if it is no text of cosign about an image."""
    try:
        critical: dict[str, Any] = msgspec.json.decode(payload)["critical"]
        return str(critical["image"]["docker-manifest-digest"]) if critical["type"] == _TYPE else ""
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""
