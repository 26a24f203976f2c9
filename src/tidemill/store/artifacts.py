"""Artifacts: values kept in the blobs by the codec that fits them, and read back as their consumer asks."""

from typing import Any

import msgspec

from tidemill.core.artifact import Artifact
from tidemill.core.check import Verdict
from tidemill.errors import Corrupt, NotFound, TidemillError
from tidemill.store.blobs import Blobs
from tidemill.store.codecs import codec_for, codec_of


def keep(blobs: Blobs, value: Any) -> Artifact:
    """Write a value to the blobs; the artifact that names it.

    Raises
    ------
    TidemillError
        where no codec keeps such a value, or the blobs cannot be written.
    """
    codec = codec_for(value)
    content = codec.encode(value)
    summary = codec.summary(value)
    if isinstance(value, Verdict) or (isinstance(value, list) and any(isinstance(one, Verdict) for one in value)):
        summary["judges"] = True
    return Artifact(id=blobs.put(content), kind=codec.kind, size=len(content), summary=summary)


def read(blobs: Blobs, artifact: Artifact, annotation: Any) -> Any:
    """The value of an artifact, as an annotation asks for it.

    Raises
    ------
    NotFound
        if its bytes are not there.
    Corrupt
        if they are not the bytes that were kept.
    TidemillError
        if they cannot be read as the annotation.
    """
    content = blobs.get(artifact.digest)
    try:
        return codec_of(artifact.kind).decode(content, annotation)
    except (msgspec.MsgspecError, TypeError, ValueError) as wrong:
        raise TidemillError(
            f"a {artifact.kind} cannot be read as {getattr(annotation, '__name__', annotation)}: {wrong}",
            "make the annotations of the step that gives it and of those that take it agree",
        ) from wrong


def holds(blobs: Blobs, artifact: Artifact) -> bool:
    """Whether all bytes of an artifact are there, and are those that were kept."""
    try:
        blobs.get(artifact.digest)
    except (NotFound, Corrupt):
        return False
    return True


def members(blobs: Blobs, artifact: Artifact) -> list[Artifact]:  # noqa: ARG001 - lists of frames come next
    """The artifacts that a list of artifacts holds."""
    return []


def refuse(annotation: Any) -> str:  # noqa: ARG001 - the rules come with the codecs
    """Why nothing that a return annotation promises can be kept; empty where something may."""
    return ""
