"""Artifacts: writes values to the blobs with a codec, and reads them as the type that the consumer requests."""

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

# Their codecs check the value against the annotation.
_CHECKED = ("json", "text", "bytes")
# Python treats them as classes, but no value is an instance of them.
_NOT_CHECKABLE = (Any, Annotated, Union, UnionType)


def write_artifact(blobs: Blobs, value: Any) -> Artifact:
    """Write a value to the blobs and return its artifact.

    A list or dict of values that are not plain data (frames, models, …) becomes a blob that names its members; each
    member is a blob. A model package is flushed to the disk before the return, since a release may refer to it.

    Raises
    ------
    TidemillError
        if no codec can write the value, or the blobs cannot be written.
    """
    codec = find_codec(value)
    if codec is None and isinstance(value, list | tuple):
        return _write_list(blobs, value)
    if codec is None and isinstance(value, dict):
        return _write_dict(blobs, value)
    codec = codec or require_codec(value)
    with blobs.draft() as draft:
        codec.write(value, draft)  # type: ignore[arg-type]  # a draft is a raw sink, and codecs only write to it
        digest = draft.keep(durable=codec.kind == "model")
    return Artifact(id=digest, kind=codec.kind, size=draft.size, summary=codec.summary(value) | _mark_verdicts(value))


def read_artifact(blobs: Blobs, artifact: Artifact, annotation: Any) -> Any:
    """Return the value of an artifact as the type of an annotation.

    Raises
    ------
    NotFound
        if its bytes are missing.
    Corrupt
        if its bytes were altered.
    TidemillError
        if they cannot be read as the annotation.
    """
    if artifact.kind == "list":
        members = list_members(blobs, artifact)
        collection = _find_collection(annotation)
        member_hints = _list_hints(collection, len(members))
        values = [read_artifact(blobs, member, hint) for member, hint in zip(members, member_hints, strict=True)]
        return _check_type(artifact, tuple(values) if _get_type(collection) is tuple else values, annotation)
    if artifact.kind == "dict":
        hints = get_args(_find_collection(annotation))
        hint = hints[1] if len(hints) == 2 else Any
        values_by_name = {
            name: read_artifact(blobs, member, hint) for name, member in _read_index(blobs, artifact).items()
        }
        return _check_type(artifact, values_by_name, annotation)
    # The same bytes may have been written as another kind first; a consumer of bytes gets the bytes.
    kind = "bytes" if annotation is bytes else artifact.kind
    with blobs.open(artifact.digest) as source:
        try:
            value = load_codec(kind).read(source, annotation)
        except (TidemillError, OSError, MemoryError):
            raise
        except Exception as error:
            raise _create_error(artifact, annotation, str(error)) from error
    return value if kind in _CHECKED else _check_type(artifact, value, annotation)


def is_intact(blobs: Blobs, artifact: Artifact) -> bool:
    """Return whether the bytes of an artifact and of its members exist and are unaltered."""
    if artifact.transient:
        return False
    try:
        blobs.open(artifact.digest).close()
        return all(is_intact(blobs, member) for member in list_members(blobs, artifact))
    except (NotFound, Corrupt):
        return False


def list_members(blobs: Blobs, artifact: Artifact) -> list[Artifact]:
    """Return the members of an artifact of kind list or dict; empty for another kind.

    Raises
    ------
    NotFound, Corrupt
        if the blob that names them is missing or was altered.
    """
    if artifact.kind == "list":
        return msgspec.json.decode(blobs.get(artifact.digest), type=list[Artifact])
    return list(_read_index(blobs, artifact).values()) if artifact.kind == "dict" else []


def _write_list(blobs: Blobs, values: list[Any] | tuple[Any, ...]) -> Artifact:
    members = [_write_member(blobs, f"member {index}", value) for index, value in enumerate(values)]
    return _write_index(blobs, "list", members, members, _mark_verdicts(values))


def _write_dict(blobs: Blobs, values: dict[Any, Any]) -> Artifact:
    invalid = next((name for name in values if type(name) is not str), None)
    if invalid is not None:
        raise DataError(
            f"a dict with values that are not plain data has the key {invalid!r}, a {type(invalid).__name__}",
            "convert all keys to text: str(key)",
        )
    members = {name: _write_member(blobs, f"member {name!r}", value) for name, value in values.items()}
    return _write_index(blobs, "dict", members, members.values(), {})


def _write_member(blobs: Blobs, position: str, value: Any) -> Artifact:
    try:
        return write_artifact(blobs, value)
    except TidemillError as error:
        error.add_note(f"in {position}")
        raise


def _write_index(blobs: Blobs, kind: str, index: Any, members: Iterable[Artifact], extra: dict[str, Any]) -> Artifact:
    content = msgspec.json.encode(index, order="deterministic")
    sizes = [member.size for member in members]
    summary = {"items": len(sizes), "bytes": sum(sizes)} | extra
    return Artifact(id=blobs.put(content), kind=kind, size=len(content), summary=summary)


def _read_index(blobs: Blobs, artifact: Artifact) -> dict[str, Artifact]:
    return msgspec.json.decode(blobs.get(artifact.digest), type=dict[str, Artifact])


def _mark_verdicts(value: Any) -> dict[str, Any]:
    values = value if isinstance(value, list | tuple) else (value,)
    return {"judges": True} if any(isinstance(member, Verdict) for member in values) else {}


def _list_hints(annotation: Any, count: int) -> list[Any]:
    """Return the annotations of the members of a list or tuple annotation."""
    hints = [hint for hint in get_args(annotation) if hint is not ...]
    if _get_type(annotation) is tuple and len(hints) == count:
        return hints
    return (hints[:1] or [Any]) * count


def _find_collection(annotation: Any) -> Any:
    """Return the collection in an annotation, which may be a union or Annotated; Any if there is none."""
    parts = get_args(annotation) if _get_type(annotation) in _NOT_CHECKABLE else (annotation,)
    collections = (
        part for part in parts if isinstance(_get_type(part), type) and issubclass(_get_type(part), Collection)
    )
    return next(collections, Any)


def _get_type(annotation: Any) -> Any:
    return get_origin(annotation) or annotation


def _check_type(artifact: Artifact, value: Any, annotation: Any) -> Any:
    kind = _get_type(annotation)
    checkable = isinstance(kind, type) and kind not in _NOT_CHECKABLE and not getattr(kind, "_is_protocol", False)
    if checkable and not isinstance(value, kind):
        raise _create_error(artifact, annotation, f"it is a {type(value).__name__}")
    return value


def _create_error(artifact: Artifact, annotation: Any, reason: str) -> TidemillError:
    return TidemillError(
        f"a {artifact.kind} cannot be read as {getattr(annotation, '__name__', annotation)}: {reason}",
        "use equal annotations in the step that returns the value and in the steps that read it",
    )
