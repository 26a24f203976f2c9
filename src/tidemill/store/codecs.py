"""Codecs: how a value becomes the bytes of an artifact, and back; nothing is pickled."""

import io
import math
import zipfile
from typing import Any, Protocol

import msgspec

from tidemill import plugin
from tidemill.core.model import Manifest, Model
from tidemill.errors import DataError, TidemillError


class Codec(Protocol):
    """Turns the values that it accepts into bytes and back; equal values give equal bytes."""

    kind: str

    def accepts(self, value: Any) -> bool: ...

    def encode(self, value: Any) -> bytes: ...

    def decode(self, content: bytes, annotation: Any) -> Any: ...

    def summary(self, value: Any) -> dict[str, Any]: ...


class FrameCodec:
    """Polars frames as Arrow IPC, compressed by column."""

    kind = "frame"

    def accepts(self, value: Any) -> bool:
        return type(value).__module__.startswith("polars") and type(value).__name__ == "DataFrame"

    def encode(self, value: Any) -> bytes:
        sink = io.BytesIO()
        value.write_ipc(sink, compression="zstd")
        return sink.getvalue()

    def decode(self, content: bytes, annotation: Any) -> Any:  # noqa: ARG002 - the protocol's
        import polars as pl

        return pl.read_ipc(io.BytesIO(content))

    def summary(self, value: Any) -> dict[str, Any]:
        return {"rows": value.height, "columns": value.columns}


class ModelCodec:
    """Model packages as uncompressed zip files without dates: the same package gives the same bytes."""

    kind = "model"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, Model)

    def encode(self, value: Model) -> bytes:
        sink = io.BytesIO()
        files = {"manifest.json": msgspec.json.format(msgspec.json.encode(value.manifest)), **value.files}
        with zipfile.ZipFile(sink, "w") as package:
            for name in sorted(files):
                package.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), files[name])
        return sink.getvalue()

    def decode(self, content: bytes, annotation: Any) -> Model:  # noqa: ARG002 - the protocol's
        with zipfile.ZipFile(io.BytesIO(content)) as package:
            files = {name: package.read(name) for name in package.namelist()}
        manifest = msgspec.json.decode(files.pop("manifest.json"), type=Manifest)
        return Model(manifest=manifest, files=files)

    def summary(self, value: Model) -> dict[str, Any]:
        return {"flavor": value.manifest.flavor, "metrics": value.manifest.metrics, "files": sorted(value.files)}


class JsonCodec:
    """Everything that msgspec writes as JSON: numbers, text, lists, dicts, dates, structs."""

    kind = "json"

    def accepts(self, value: Any) -> bool:
        try:
            msgspec.json.encode(value)
        except (TypeError, ValueError, OverflowError):
            return False
        return True

    def encode(self, value: Any) -> bytes:
        """Raises `DataError` for a NaN or an infinity that would come back as nothing."""
        content = msgspec.json.encode(value, order="deterministic")
        if b"null" in content and not _comes_back(value):
            raise DataError(
                f"a {type(value).__name__} holds a number that is not finite, which JSON cannot keep",
                "give None in its place, or leave it out",
            )
        return content

    def decode(self, content: bytes, annotation: Any) -> Any:
        return msgspec.json.decode(content, type=annotation)

    def summary(self, value: Any) -> dict[str, Any]:
        return {"type": type(value).__name__} | (
            {"items": len(value)} if isinstance(value, dict | list | tuple) else {}
        )


def _comes_back(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_comes_back, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_comes_back, value))
    if isinstance(value, msgspec.Struct):
        try:
            msgspec.json.decode(msgspec.json.encode(value), type=type(value))
        except msgspec.ValidationError:
            return False
    return True


class BytesCodec:
    """Bytes as they are."""

    kind = "bytes"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, bytes)

    def encode(self, value: bytes) -> bytes:
        return value

    def decode(self, content: bytes, annotation: Any) -> bytes:  # noqa: ARG002 - the protocol's
        return content

    def summary(self, value: bytes) -> dict[str, Any]:
        return {"bytes": len(value)}


_OWN: tuple[Codec, ...] = (FrameCodec(), ModelCodec(), BytesCodec(), JsonCodec())


def codec_for(value: Any) -> Codec:
    """The first codec that accepts a value; plugs of the group `tidemill.codecs` are asked first.

    Raises
    ------
    TidemillError
        where none does.
    """
    plugged: list[Codec] = [plugin.load("codecs", name) for name in plugin.names("codecs")]
    for codec in (*plugged, *_OWN):
        if codec.accepts(value):
            return codec
    raise TidemillError(
        f"no codec can keep a {type(value).__module__}.{type(value).__qualname__}",
        "return a Polars frame, a Model, bytes, or plain data (numbers, text, lists, dicts, structs); "
        "or register a codec under the entry point tidemill.codecs",
    )


def codec_of(kind: str) -> Codec:
    """The codec of a kind; raises `NotFound` for a kind that no installed package reads."""
    own: dict[str, Codec] = {codec.kind: codec for codec in _OWN}
    found: Codec = own[kind] if kind in own else plugin.load("codecs", kind)
    return found
