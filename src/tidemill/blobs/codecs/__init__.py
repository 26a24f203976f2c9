"""Codecs: write a value as the bytes of an artifact and read it back, without pickle."""

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
    """Writes accepted values as bytes and reads them back; equal values result in equal bytes on every machine.

    `write` gets a sink that supports only sequential writes; `read` gets a file with the written bytes, at its start,
    and the type that the consumer requests (`Any` without an annotation). `accepts` must be fast, since it is called
    for every value. `summary` returns plain data for people: rows, columns, shape.
    """

    kind: str

    def accepts(self, value: Any) -> bool: ...

    def write(self, value: Any, sink: BinaryIO) -> None: ...

    def read(self, source: BinaryIO, annotation: Any) -> Any: ...

    def summary(self, value: Any) -> dict[str, Any]: ...


_BUILT_IN: tuple[Codec, ...] = (
    TextCodec(),
    BytesCodec(),
    FrameCodec(),
    ArrayCodec(),
    ModelCodec(),
    ReportCodec(),
    PictureCodec(),
    JsonCodec(),
)
_SUPPORTED = (
    "return a frame (Polars, pandas, Arrow), a NumPy array, a Model, text, bytes, a figure, a Report, a Picture, "
    "or plain data (numbers, lists, dicts, dates, structs, dataclasses); "
    "or register a codec under the entry point tidemill.codecs"
)


def find_codec(value: Any) -> Codec | None:
    """Return the first codec that accepts a value, or None; plug-ins of the group `tidemill.codecs` come first."""
    try:
        return next((codec for codec in _list_codecs() if codec.accepts(value)), None)
    except RecursionError:
        raise TidemillError(
            f"a {type(value).__name__} contains itself, or is nested too deeply to be stored", "return it flattened"
        ) from None


def require_codec(value: Any) -> Codec:
    """Return the codec that accepts a value.

    Raises
    ------
    TidemillError
        if no codec accepts it; the cure names what to return instead.
    """
    codec = find_codec(value)
    if codec is not None:
        return codec
    refusal = find_refusal(type(value))
    if refusal:
        raise TidemillError(f"no codec can store {refusal.what}", refusal.cure)
    raise TidemillError(f"no codec can store a {type(value).__module__}.{type(value).__qualname__}", _SUPPORTED)


def load_codec(kind: str) -> Codec:
    """Return the codec of a kind; raise `NotFound` if no installed package has one."""
    built_in = {codec.kind: codec for codec in _BUILT_IN}
    codec: Codec = built_in[kind] if kind in built_in else plugin.load("codecs", kind)
    return codec


def encode(value: Any) -> bytes:
    """Return the bytes of a value, in memory; raise `TidemillError` if no codec accepts it."""
    sink = io.BytesIO()
    require_codec(value).write(value, sink)
    return sink.getvalue()


@cache
def _list_codecs() -> tuple[Codec, ...]:
    return (*(plugin.load("codecs", name) for name in plugin.list_names("codecs")), *_BUILT_IN)
