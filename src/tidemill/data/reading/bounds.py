"""Bounds of one file: its rows and the memory that they need are estimated before the file is read.

A small file can have many rows (equal values in Parquet), many bytes (a compressed one) or many columns.
"""

import re
import zipfile
from io import BytesIO

import numpy as np
from msgspec import Struct

from tidemill.errors import TooLarge, TooMuchMemory, Unreadable

MOST_COLUMNS = 10_000
MOST_DEPTH = 200
_MB = 1_000_000
# How many bytes of memory one byte of a text, and one value, need until the rows are in the table.
_PER_TEXT_BYTE, PER_VALUE = 6, 32
_PER_CELL, _PER_SPARSE_CELL = 16, 128
_BLOCK = 1 << 22
_JSON_NAME = re.compile(rb'"((?:[^"\\]|\\.)*)"\s*:')


class Bounds(Struct, frozen=True):
    """The most rows and memory (MB) of one file of a source; `source` is its name, for the cure."""

    source: str
    rows: int
    memory_mb: int

    @property
    def text_bytes(self) -> int:
        """Return the most bytes of a text file."""
        return self.memory_mb * _MB // _PER_TEXT_BYTE

    def explain_rows(self, name: str, rows: int) -> TooLarge:
        """Return the error for a file with more rows."""
        return TooLarge(
            f"{name} has {rows:,} rows, and a file of source {self.source!r} may have {self.rows:,}",
            f"split the file, or set max_rows = {_round_up(rows)} under [sources.{self.source}] in tidemill.toml",
        )

    def explain_more_rows(self, name: str) -> TooLarge:
        """Return the error for a file that is not read to its end, because it has more rows."""
        return TooLarge(
            f"{name} has more than {self.rows:,} rows, the most that a file of source {self.source!r} may have",
            f"split the file, or set max_rows to its number of rows under [sources.{self.source}] in tidemill.toml",
        )

    def explain_sheet(self, name: str) -> TooMuchMemory:
        """Return the error for a workbook that a process with this memory could not read."""
        return TooMuchMemory(
            f"{name} needs more than {self.memory_mb:,} MB of memory, the most that a file of source {self.source!r} "
            "may need: its sheets have many cells, or cells that are far apart",
            "save the sheet with the table as CSV or Parquet, or set a larger max_memory_mb under "
            f"[sources.{self.source}] in tidemill.toml",
        )

    def explain_memory(self, name: str, needed: int, what: str) -> TooMuchMemory:
        """Return the error for a file that needs more memory (bytes), because of its size, `what`."""
        return TooMuchMemory(
            f"{name} {what}, which needs about {needed // _MB:,} MB of memory, and a file of source {self.source!r} "
            f"may need {self.memory_mb:,} MB",
            f"split the file, or set max_memory_mb = {_round_up(needed // _MB)} under [sources.{self.source}] in "
            "tidemill.toml",
        )


def _round_up(number: int) -> int:
    """Return a number of two digits and zeros that is larger.

    >>> _round_up(40_000_000), _round_up(123)
    (41000000, 130)
    """
    unit: int = 10 ** max(len(str(number)) - 2, 0)
    return (number // unit + 1) * unit


def require_columns(count: int, name: str) -> None:
    """Raise `Unreadable` if a table has more columns than one can use."""
    if count > MOST_COLUMNS:
        raise Unreadable(
            f"{name} has {count:,} columns, and a table may have {MOST_COLUMNS:,}",
            "write the values as rows: an id, a name and a value in each",
        )


def require_text(size: int, rows: int, bounds: Bounds, name: str) -> None:
    """Raise `TooLarge` if a text of this many bytes and lines is beyond the bounds."""
    if size > bounds.text_bytes:
        raise bounds.explain_memory(name, size * _PER_TEXT_BYTE, f"has {size:,} bytes of text")
    if rows > bounds.rows:
        raise bounds.explain_rows(name, rows)


def require_cells(rows: int, columns: int, bounds: Bounds, name: str, *, per_cell: int = _PER_CELL) -> None:
    """Raise `TooMuchMemory` if a table of so many rows and columns is beyond the bounds, also if it is nearly empty."""
    needed = rows * columns * per_cell
    if needed > bounds.memory_mb * _MB:
        raise bounds.explain_memory(name, needed, f"has {rows:,} rows of {columns:,} values")


def require_json_cells(content: bytes, rows: int, bounds: Bounds, name: str) -> None:
    """Raise an error if records have so many different names that their table, which has all, is beyond the bounds."""
    values = content.count(b":")
    if values * rows * _PER_SPARSE_CELL <= bounds.memory_mb * _MB:
        return
    names = {match[1] for match in _JSON_NAME.finditer(content)}
    require_columns(len(names), name)
    if values < rows * len(names) // 2:  # otherwise the size of the text shows the memory
        require_cells(rows, len(names), bounds, name, per_cell=_PER_SPARSE_CELL)


def require_workbook(content: bytes, bounds: Bounds, name: str) -> None:
    """Raise `TooLarge` if the parts of a workbook are beyond the bounds without their compression."""
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError):
        return  # an old workbook is no archive; reading it names other faults
    if size > bounds.text_bytes:
        raise bounds.explain_memory(name, size * _PER_TEXT_BYTE, f"has {size:,} bytes without compression")


def require_shallow(content: bytes, name: str) -> None:
    """Raise `Unreadable` if lists and records of JSON are nested more deeply than a reader can follow."""
    raw = np.frombuffer(content, dtype=np.uint8)
    level = 0
    for start in range(0, len(raw), _BLOCK):
        block = raw[start : start + _BLOCK]
        opening = (block == ord("[")) | (block == ord("{"))
        closing = (block == ord("]")) | (block == ord("}"))
        levels = np.cumsum(opening.view(np.int8).astype(np.int32) - closing.view(np.int8)) + level
        if len(levels) and int(levels.max()) > MOST_DEPTH:
            depth = _count_levels(content)  # brackets within texts do not count
            if depth > MOST_DEPTH:
                raise Unreadable(
                    f"{name} has lists and records within each other, {depth:,} levels deep; the limit is {MOST_DEPTH}",
                    "write the members of its values as columns",
                )
            return
        level = int(levels[-1]) if len(levels) else level


def _count_levels(content: bytes) -> int:
    """Return how deep lists and records are nested; counting ends above the limit."""
    level = deepest = 0
    is_text = is_escaped = False
    for byte in content:
        if is_text:
            if is_escaped:
                is_escaped = False
            elif byte == 0x5C:
                is_escaped = True
            elif byte == 0x22:
                is_text = False
        elif byte == 0x22:
            is_text = True
        elif byte in b"[{":
            level += 1
            deepest = max(deepest, level)
        elif byte in b"]}":
            level -= 1
    return deepest
