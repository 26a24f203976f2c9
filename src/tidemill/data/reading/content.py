"""The bytes of a file: compressed files are decompressed, whatever their name."""

import bz2
import gzip
import lzma
import sys
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

from tidemill.core.dialect import COMPRESSIONS
from tidemill.data.reading.bounds import Bounds, require_text
from tidemill.errors import Unreadable

_PIECE = 1 << 22
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz"}


def split_suffix(name: str) -> str:
    """Return the suffix that names the format, without that of a compression.

    >>> split_suffix("days/2026.CSV.gz")
    '.csv'
    """
    path = Path(name)
    return Path(path.stem if path.suffix.lower() in COMPRESSIONS else path.name).suffix.lower()


def read_content(source: Path | BytesIO, name: str, bounds: Bounds | None = None) -> bytes:
    """Return the bytes of a file or a buffer, decompressed.

    Raises
    ------
    Unreadable
        if the compressed bytes are damaged or incomplete.
    TooLarge
        if they are beyond the bounds; no more of them are decompressed then.
    """
    size = len(source.getbuffer()) if isinstance(source, BytesIO) else source.stat().st_size
    if bounds is not None:
        require_text(size, 0, bounds, name)
    raw = source.getvalue() if isinstance(source, BytesIO) else source.read_bytes()
    kind = find_compression(raw)
    if not kind:
        return raw
    try:
        return _decompress(kind, raw) if bounds is None else _decompress_within(kind, raw, bounds, name)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as error:
        raise Unreadable(f"{name} cannot be decompressed as {kind}: {error}", "copy the complete file again") from None


def _decompress_within(kind: str, raw: bytes, bounds: Bounds, name: str) -> bytes:
    """Decompress in pieces, and raise `TooLarge` as soon as there are more bytes than the bounds allow."""
    parts, size = [], 0
    with open_compressed(kind, BytesIO(raw)) as file:
        while part := file.read(_PIECE):
            size += len(part)
            require_text(size, 0, bounds, name)
            parts.append(part)
    return b"".join(parts)


def open_compressed(kind: str, source: Path | BytesIO) -> Any:
    """Open a file or a buffer with a kind of compression, to read its bytes without it."""
    if kind == "gzip":
        return gzip.open(source)
    if kind == "bz2":
        return bz2.open(source)
    if kind == "xz":
        return lzma.open(source)
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd.open(source)


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
