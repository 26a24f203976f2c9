"""Codecs: how a value becomes the bytes of an artifact, and back; nothing is pickled."""

import io
from functools import cache
from typing import Any, BinaryIO, Protocol

from tidemill import plugin
from tidemill.blobs.codecs.arrays import ArrayCodec
from tidemill.blobs.codecs.frames import FrameCodec
from tidemill.blobs.codecs.models import ModelCodec
from tidemill.blobs.codecs.pictures import PictureCodec, ReportCodec
from tidemill.blobs.codecs.plain import BytesCodec, JsonCodec, TextCodec
from tidemill.blobs.codecs.refusals import find_refusal
from tidemill.errors import TidemillError

__all__ = [
    "ArrayCodec",
    "BytesCodec",
    "Codec",
    "FrameCodec",
    "JsonCodec",
    "ModelCodec",
    "PictureCodec",
    "ReportCodec",
    "TextCodec",
    "encode",
    "find_codec",
    "load_codec",
    "require_codec",
]


class Codec(Protocol):
    """Writes the values that it accepts as bytes and reads them back; equal values give equal bytes everywhere.

    `write` gets a sink that only takes bytes in their order; `read` gets a file that holds what was written, from its
    beginning, and the type that the consumer asks for (`Any` where it does not say). `accepts` is quick, as it is
    asked for every value. `summary` is plain data for people: rows, columns, shape.
    """

    kind: str

    def accepts(self, value: Any) -> bool: ...

    def write(self, value: Any, sink: BinaryIO) -> None: ...

    def read(self, source: BinaryIO, annotation: Any) -> Any: ...

    def summary(self, value: Any) -> dict[str, Any]: ...


_OWN: tuple[Codec, ...] = (
    TextCodec(),
    BytesCodec(),
    FrameCodec(),
    ArrayCodec(),
    ModelCodec(),
    ReportCodec(),
    PictureCodec(),
    JsonCodec(),
)
_KEPT = (
    "return a frame (Polars, pandas, Arrow), a NumPy array, a Model, text, bytes, a figure, a Report, a Picture, "
    "or plain data (numbers, lists, dicts, dates, structs, dataclasses); "
    "or register a codec under the entry point tidemill.codecs"
)


def find_codec(value: Any) -> Codec | None:
    """The first codec that accepts a value; plugs of the group `tidemill.codecs` are asked first."""
    try:
        return next((codec for codec in _codecs() if codec.accepts(value)), None)
    except RecursionError:
        raise TidemillError(
            f"a {type(value).__name__} holds itself, or is nested too deeply to be kept", "return it flattened"
        ) from None


def require_codec(value: Any) -> Codec:
    """The codec that keeps a value.

    Raises
    ------
    TidemillError
        where none does; it says what to return in the value's place.
    """
    found = find_codec(value)
    if found is not None:
        return found
    refusal = find_refusal(type(value))
    if refusal:
        raise TidemillError(f"no codec can keep {refusal.what}", refusal.cure)
    raise TidemillError(f"no codec can keep a {type(value).__module__}.{type(value).__qualname__}", _KEPT)


def load_codec(kind: str) -> Codec:
    """The codec of a kind; raises `NotFound` for a kind that no installed package reads."""
    own = {codec.kind: codec for codec in _OWN}
    found: Codec = own[kind] if kind in own else plugin.load("codecs", kind)
    return found


def encode(value: Any) -> bytes:
    """The bytes of a value, whole in memory; raises `TidemillError` where no codec keeps it."""
    sink = io.BytesIO()
    require_codec(value).write(value, sink)
    return sink.getvalue()


@cache
def _codecs() -> tuple[Codec, ...]:
    return (*(plugin.load("codecs", name) for name in plugin.names("codecs")), *_OWN)
