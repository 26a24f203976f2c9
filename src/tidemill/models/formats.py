"""Tells by its content what a model file is; nothing in it is run."""

import bz2
import lzma
import re
import zlib
from typing import Literal

from tidemill.errors import DataError

Format = Literal["lightgbm-raw", "joblib", "onnx"]

_LIGHTGBM = re.compile(rb"tree\r?\nversion=v\d")
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
# An ONNX file is a protobuf message: field 1 is the version of its format, another field of `ModelProto` follows.
_ONNX = re.compile(rb"\x08[\x01-\x20][\x12\x1a\x22\x28\x32\x3a\x42\x72]")
_LZ4 = b"\x04\x22\x4d\x18"
_LARGEST = 1 << 31


def detect_format(content: bytes, place: str) -> Format:
    """The format of a model file; `place` is how an error calls it.

    Raises
    ------
    DataError
        if it is of no format that is known.
    """
    if _LIGHTGBM.match(content):
        return "lightgbm-raw"
    if _ONNX.match(content):
        return "onnx"
    if _PICKLE.match(decompress(content, 2)) or content.startswith(_LZ4):
        return "joblib"
    if content.startswith(b"PK"):
        raise DataError(f"{place} is a zip file", "unpack it, or save the model by joblib, as ONNX or LightGBM text")
    raise DataError(
        f"the format of {place} is not known",
        "give a file of joblib, LightGBM (saved as text) or ONNX, or a directory of MLflow",
    )


def decompress(content: bytes, size: int = _LARGEST) -> bytes:
    """The first `size` bytes of what joblib may have compressed; the content itself where it did not."""
    try:
        if content[:1] == b"\x78" or content[:2] == b"\x1f\x8b":
            return zlib.decompressobj(wbits=47).decompress(content, size)
        if content[:3] == b"BZh":
            return bz2.BZ2Decompressor().decompress(content, size)
        if content[:3] in (b"\x5d\x00\x00", b"\xfd7z"):
            return lzma.LZMADecompressor().decompress(content, size)
    except (zlib.error, OSError, lzma.LZMAError):
        return content[:size]
    return content[:size]
