"""Detects the format of a model file from its content, without running it."""

import bz2
import lzma
import re
import zlib
from typing import Literal

from tidemill.errors import DataError

Format = Literal["lightgbm-raw", "joblib", "onnx"]

_LIGHTGBM = re.compile(rb"tree\r?\nversion=v\d")
_PICKLE = re.compile(rb"\x80[\x02-\x05]")
# An ONNX file is a protobuf message: field 1 is the version of its format, and another field of `ModelProto` follows.
_ONNX = re.compile(rb"\x08[\x01-\x20][\x12\x1a\x22\x28\x32\x3a\x42\x72]")
_LZ4 = b"\x04\x22\x4d\x18"
_LARGEST = 1 << 31


def detect_format(content: bytes, name: str) -> Format:
    """Return the format of a model file; `name` names the file in error messages.

    Raises
    ------
    DataError
        if the format is unknown.
    """
    if _LIGHTGBM.match(content):
        return "lightgbm-raw"
    if _ONNX.match(content):
        return "onnx"
    if _PICKLE.match(decompress(content, 2)) or content.startswith(_LZ4):
        return "joblib"
    if content.startswith(b"PK"):
        raise DataError(f"{name} is a zip file", "unpack it, or save the model with joblib, as ONNX or LightGBM text")
    raise DataError(
        f"the format of {name} is unknown",
        "use a file of joblib, LightGBM (saved as text) or ONNX, or a directory of MLflow",
    )


def decompress(content: bytes, size: int = _LARGEST) -> bytes:
    """Return the first `size` bytes of a file after decompression, if joblib compressed it."""
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
