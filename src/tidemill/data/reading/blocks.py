"""Blocks of a text file that is too large to be read at once: whole lines, or whole records of delimited text."""

import gzip
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tidemill.data.reading.bounds import Bounds
from tidemill.data.reading.content import find_compression, open_compressed
from tidemill.errors import Unreadable

_QUOTE, _NEWLINE = 34, 10
_PIECE = 1 << 22


class Block(NamedTuple):
    """Some lines of a file, and the number of lines before them."""

    content: bytes
    lines_before: int


def iterate_blocks(path: Path, size: int, bounds: Bounds, *, has_quotes: bool) -> Iterator[Block]:
    """Yield the lines of a file, decompressed, in blocks of about `size` bytes; no quoted value is cut.

    Raises
    ------
    Unreadable
        if the compressed bytes are damaged, or a line is longer than the bounds of one file.
    """
    with path.open("rb") as file:
        kind = find_compression(file.read(8))
    try:
        with open_compressed(kind, path) if kind else path.open("rb") as content:
            yield from _cut(content, str(path), size, bounds, has_quotes=has_quotes)
    except (EOFError, ValueError, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise Unreadable(f"{path} cannot be decompressed as {kind}: {error}", "copy the complete file again") from None
    except OSError as error:
        if not kind or error.errno is not None:
            raise
        raise Unreadable(f"{path} cannot be decompressed as {kind}: {error}", "copy the complete file again") from None


def _cut(content: Any, name: str, size: int, bounds: Bounds, *, has_quotes: bool) -> Iterator[Block]:
    parts: list[bytes] = []  # of the block that is read, each ending anywhere
    held = lines_before = parity = 0
    while piece := content.read(min(_PIECE, size)):
        end, parity = _find_last_end(piece, parity, has_quotes=has_quotes)
        parts.append(piece)
        held += len(piece)
        if held > bounds.text_bytes and not end:
            raise bounds.explain_memory(name, held * 6, f"has a line of more than {held:,} bytes")
        if held < size or not end:
            continue
        block = b"".join([*parts[:-1], piece[:end]])
        yield Block(block, lines_before)
        lines_before += block.count(b"\n")
        rest = piece[end:]
        parts, held = ([rest], len(rest)) if rest else ([], 0)
    if held:
        yield Block(b"".join(parts), lines_before)


def _find_last_end(piece: bytes, parity: int, *, has_quotes: bool) -> tuple[int, int]:
    """Return where the last record of a piece ends, 0 if none does, and whether a quote is open at the end (1)."""
    if not has_quotes or b'"' not in piece:
        return (0 if parity else piece.rfind(b"\n") + 1), parity
    raw = np.frombuffer(piece, dtype=np.uint8)
    inside = np.bitwise_xor.accumulate((raw == _QUOTE).view(np.uint8)) ^ parity
    ends = np.flatnonzero((raw == _NEWLINE) & (inside == 0))
    return (int(ends[-1]) + 1 if len(ends) else 0), int(inside[-1])
