"""Artifacts: values kept in the blobs by the codec that fits them, and read back as their consumer asks."""

from collections.abc import Collection, Iterable
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import msgspec

from tidemill.blobs.codecs import find_codec, load_codec, require_codec
from tidemill.blobs.codecs.refusals import explain_refusal
from tidemill.blobs.store import Blobs
from tidemill.core.artifact import Artifact
from tidemill.core.check import Verdict
from tidemill.errors import Corrupt, DataError, NotFound, TidemillError

__all__ = ["explain_refusal", "is_intact", "list_members", "read_artifact", "write_artifact"]

# Their codecs have held the value against the annotation already.
_CHECKED = ("json", "text", "bytes")
# They are classes to Python, but nothing is an instance of them.
_OPEN = (Any, Annotated, Union, UnionType)


def write_artifact(blobs: Blobs, value: Any) -> Artifact:
    """Write a value to the blobs; the artifact that names it.

    A list or a dict of values that are no plain data (frames, models, …) is a blob that names its members, each a
    blob of its own. A model package is on the platter when this returns: a release may point to it.

    Raises
    ------
    TidemillError
        where no codec keeps such a value, or the blobs cannot be written.
    """
    codec = find_codec(value)
    if codec is None and isinstance(value, list | tuple):
        return _keep_list(blobs, value)
    if codec is None and isinstance(value, dict):
        return _keep_dict(blobs, value)
    codec = codec or require_codec(value)
    with blobs.draft() as draft:
        codec.write(value, draft)  # type: ignore[arg-type]  # a raw sink: codecs only write to it
        digest = draft.keep(durable=codec.kind == "model")
    return Artifact(id=digest, kind=codec.kind, size=draft.size, summary=codec.summary(value) | _judges(value))


def read_artifact(blobs: Blobs, artifact: Artifact, annotation: Any) -> Any:
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
    if artifact.kind == "list":
        kept = list_members(blobs, artifact)
        asked = _collection(annotation)
        values = [read_artifact(blobs, one, hint) for one, hint in zip(kept, _hints(asked, len(kept)), strict=True)]
        return _as_asked(artifact, tuple(values) if _type(asked) is tuple else values, annotation)
    if artifact.kind == "dict":
        hints = get_args(_collection(annotation))
        hint = hints[1] if len(hints) == 2 else Any
        table = {name: read_artifact(blobs, one, hint) for name, one in _table(blobs, artifact).items()}
        return _as_asked(artifact, table, annotation)
    # The same bytes may have been kept as another kind first: who asks for bytes gets those.
    kind = "bytes" if annotation is bytes else artifact.kind
    with blobs.open(artifact.digest) as source:
        try:
            value = load_codec(kind).read(source, annotation)
        except (TidemillError, OSError, MemoryError):
            raise
        except Exception as wrong:
            raise _unreadable(artifact, annotation, str(wrong)) from wrong
    return value if kind in _CHECKED else _as_asked(artifact, value, annotation)


def is_intact(blobs: Blobs, artifact: Artifact) -> bool:
    """Whether all bytes of an artifact and of its members are there, and are those that were kept."""
    if artifact.transient:
        return False
    try:
        blobs.open(artifact.digest).close()
        return all(is_intact(blobs, one) for one in list_members(blobs, artifact))
    except (NotFound, Corrupt):
        return False


def list_members(blobs: Blobs, artifact: Artifact) -> list[Artifact]:
    """The artifacts that an artifact of kind list or dict is made of; none for another kind.

    Raises
    ------
    NotFound, Corrupt
        where the blob that names them is not there, or is altered.
    """
    if artifact.kind == "list":
        return msgspec.json.decode(blobs.get(artifact.digest), type=list[Artifact])
    return list(_table(blobs, artifact).values()) if artifact.kind == "dict" else []


def _keep_list(blobs: Blobs, values: list[Any] | tuple[Any, ...]) -> Artifact:
    kept = [_keep_member(blobs, f"member {place}", value) for place, value in enumerate(values)]
    return _keep_index(blobs, "list", kept, kept, _judges(values))


def _keep_dict(blobs: Blobs, values: dict[Any, Any]) -> Artifact:
    strange = next((name for name in values if type(name) is not str), None)
    if strange is not None:
        raise DataError(
            f"a dict has the key {strange!r}, a {type(strange).__name__}, besides others or beside frames",
            "make all keys text: str(key)",
        )
    kept = {name: _keep_member(blobs, f"member {name!r}", value) for name, value in values.items()}
    return _keep_index(blobs, "dict", kept, kept.values(), {})


def _keep_member(blobs: Blobs, place: str, value: Any) -> Artifact:
    try:
        return write_artifact(blobs, value)
    except TidemillError as wrong:
        wrong.add_note(f"in {place}")
        raise


def _keep_index(blobs: Blobs, kind: str, index: Any, kept: Iterable[Artifact], more: dict[str, Any]) -> Artifact:
    content = msgspec.json.encode(index, order="deterministic")
    sizes = [one.size for one in kept]
    summary = {"items": len(sizes), "bytes": sum(sizes)} | more
    return Artifact(id=blobs.put(content), kind=kind, size=len(content), summary=summary)


def _table(blobs: Blobs, artifact: Artifact) -> dict[str, Artifact]:
    return msgspec.json.decode(blobs.get(artifact.digest), type=dict[str, Artifact])


def _judges(value: Any) -> dict[str, Any]:
    given = value if isinstance(value, list | tuple) else (value,)
    return {"judges": True} if any(isinstance(one, Verdict) for one in given) else {}


def _hints(annotation: Any, count: int) -> list[Any]:
    """What an annotation of a list or a tuple asks of each of its members."""
    hints = [hint for hint in get_args(annotation) if hint is not ...]
    if _type(annotation) is tuple and len(hints) == count:
        return hints
    return (hints[:1] or [Any]) * count


def _collection(annotation: Any) -> Any:
    """An annotation itself or, of a union or an annotated one, the part that is a collection."""
    parts = get_args(annotation) if _type(annotation) in _OPEN else (annotation,)
    collections = (part for part in parts if isinstance(_type(part), type) and issubclass(_type(part), Collection))
    return next(collections, Any)


def _type(annotation: Any) -> Any:
    return get_origin(annotation) or annotation


def _as_asked(artifact: Artifact, value: Any, annotation: Any) -> Any:
    kind = _type(annotation)
    checkable = isinstance(kind, type) and kind not in _OPEN and not getattr(kind, "_is_protocol", False)
    if checkable and not isinstance(value, kind):
        raise _unreadable(artifact, annotation, f"it is a {type(value).__name__}")
    return value


def _unreadable(artifact: Artifact, annotation: Any, why: str) -> TidemillError:
    return TidemillError(
        f"a {artifact.kind} cannot be read as {getattr(annotation, '__name__', annotation)}: {why}",
        "make the annotations of the step that gives it and of those that take it agree",
    )
