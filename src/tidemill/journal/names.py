"""The names of the files of a journal: a segment's name has the range of its rows, its id and its checksum.

`BEGIN-END-IDCHECKSUM.arrow`: the range of `known_at` in microseconds, an id of 12 hexadecimal digits, and a checksum of
16. Segments of earlier versions have only the id: their bytes cannot be verified until they are merged.
"""

import hashlib
import os
import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path

from msgspec import Struct

EMPTY = "1-0"  # the time range of a segment without rows, which only replaces other segments
DAMAGED = ".damaged"
_NAME = re.compile(r"^(-?\d+)-(-?\d+)-([0-9a-f]+)\.arrow$")
_ID_DIGITS = 12
_CHECKSUM_DIGITS = 16


class SegmentName(Struct, frozen=True):
    """The parts of a segment's name; `checksum` is empty for a segment of an earlier version."""

    first: int
    last: int
    unique: str
    checksum: str

    @property
    def identifier(self) -> str:
        """The id that its writer chose, without the checksum."""
        return self.unique.removesuffix(self.checksum) if self.checksum else self.unique


@lru_cache(maxsize=10_000)
def parse_name(name: str) -> SegmentName | None:
    """Return the parts of the name of a segment; None for the name of another file.

    >>> parse_name("1-5-0123456789ab.arrow").checksum, parse_name("1-5-0123456789abffffffffffffffff.arrow").identifier
    ('', '0123456789ab')
    """
    parts = _NAME.match(name)
    if parts is None:
        return None
    unique = parts[3]
    checksum = unique[_ID_DIGITS:] if len(unique) == _ID_DIGITS + _CHECKSUM_DIGITS else ""
    return SegmentName(int(parts[1]), int(parts[2]), unique, checksum)


def compute_checksum(kind: str, span: str, identifier: str, content: bytes | memoryview) -> str:
    """Return the checksum of a segment: of its bytes and of its place, so that a file in a wrong place is found."""
    digest = hashlib.sha256(f"{kind} {span} {identifier}\n".encode())
    digest.update(content)
    return digest.hexdigest()[:_CHECKSUM_DIGITS]


def format_name(kind: str, span: str, identifier: str, content: bytes | memoryview) -> str:
    """Return the name of a segment with these bytes."""
    return f"{span}-{identifier}{compute_checksum(kind, span, identifier, content)}.arrow"


def is_content(name: str, kind: str, content: bytes | memoryview) -> bool:
    """Return whether bytes are those of the segment with this name; any bytes are, for one of an earlier version."""
    parts = parse_name(name)
    if parts is None or not parts.checksum:
        return True
    span = name[: -len(f"-{parts.unique}.arrow")]
    return compute_checksum(kind, span, parts.identifier, content) == parts.checksum


def list_names(folder: str) -> list[str]:
    """Return the names of the files in a folder; none if it does not exist."""
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except FileNotFoundError:
        return []


def list_replaced(folder: str, names: set[str]) -> set[str]:
    """Return the segments that a newer segment has replaced; a list without its segment replaces nothing.

    The lists are read after the names: a new segment among the names has its list then, or its compaction is finished.
    """
    lists = [name for name in list_names(folder) if name.endswith(".replaces")]
    if not lists:
        return set()
    joined = {name.unique for text in names if (name := parse_name(text))}
    valid = [name for name in lists if name.split(".")[1] in joined]
    return {replaced for name in valid for replaced in Path(folder, name).read_text().split("\n")}


def to_microseconds(time: object) -> int:
    """Return a time as microseconds since 1970."""
    assert isinstance(time, datetime)
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
