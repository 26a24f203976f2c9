"""The bytes of a file: compressed files are decompressed, whatever their name."""

import bz2
import gzip
import lzma
import sys
import zlib
from io import BytesIO
from pathlib import Path

from tidemill.core.dialect import COMPRESSIONS
from tidemill.errors import Unreadable

_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz"}


def split_suffix(name: str) -> str:
    """Return the suffix that names the format, without that of a compression.

    >>> split_suffix("days/2026.CSV.gz")
    '.csv'
    """
    path = Path(name)
    return Path(path.stem if path.suffix.lower() in COMPRESSIONS else path.name).suffix.lower()


def read_content(source: Path | BytesIO, name: str) -> bytes:
    """Return the bytes of a file or a buffer, decompressed.

    Raises
    ------
    Unreadable
        if the compressed bytes are damaged or incomplete.
    """
    raw = source.getvalue() if isinstance(source, BytesIO) else source.read_bytes()
    kind = find_compression(raw)
    if not kind:
        return raw
    try:
        return _decompress(kind, raw)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise Unreadable(f"{name} cannot be decompressed as {kind}: {error}", "copy the complete file again") from None


def find_compression(start: bytes) -> str:
    """Return the kind of compression that the first bytes of a file show, or an empty text."""
    return next((kind for magic, kind in _MAGIC.items() if start.startswith(magic)), "")


def _decompress(kind: str, raw: bytes) -> bytes:
    if kind == "gzip":
        return gzip.decompress(raw)
    if kind == "bz2":
        return bz2.decompress(raw)
    if kind == "xz":
        return lzma.decompress(raw)
    return _decompress_zstd(raw)


def _decompress_zstd(raw: bytes) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    try:
        content: bytes = zstd.decompress(raw)
    except zstd.ZstdError as error:
        raise OSError(str(error)) from None
    return content
