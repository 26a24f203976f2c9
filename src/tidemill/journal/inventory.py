"""The inventory of a folder of segments: a log of the names that were written, so that a deleted file is noticed.

Each writer adds a line `+ NAME CHECKSUM` after it wrote a segment. A compaction rewrites the log: with the segments
that exist, those that are missing, and a line `- NAME CHECKSUM` for each that it replaced, because its writer may add
its line late.
"""

import os
import zlib
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_FILE = ".segments"


def record_segment(folder: str, name: str) -> None:
    """Add a segment to the inventory; a disk that refuses it takes nothing but the notice of a later deletion."""
    with suppress(OSError):
        descriptor = os.open(f"{folder}/{_FILE}", os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            os.write(descriptor, _format("+", name))
        finally:
            os.close(descriptor)


def list_missing(folder: Path, present: Iterable[str]) -> list[str]:
    """Return the segments that were written and not replaced, but are not present."""
    recorded, replaced = _read(folder)
    return sorted(recorded - replaced - set(present))


def rewrite(folder: Path, present: Iterable[str], replaced: Iterable[str]) -> None:
    """Rewrite the inventory after a compaction; segments that were `replaced` or given up are not missing."""
    existing, gone = set(present), set(replaced)
    missing = set(list_missing(folder, existing)) - gone
    draft = folder / f"{_FILE}.{os.getpid()}"
    with suppress(OSError):
        draft.write_bytes(
            b"".join([_format("+", name) for name in sorted(existing | missing)])
            + b"".join([_format("-", name) for name in sorted(gone)])
        )
        draft.replace(folder / _FILE)


def _format(sign: str, name: str) -> bytes:
    line = f"{sign} {name}"
    return f"{line} {zlib.crc32(line.encode()):08x}\n".encode()


def _read(folder: Path) -> tuple[set[str], set[str]]:
    """Return the recorded and the replaced names; a line that is incomplete or damaged is ignored."""
    try:
        content = (folder / _FILE).read_bytes()
    except OSError:
        return set(), set()
    names: dict[str, set[str]] = {"+": set(), "-": set()}
    for line in content.decode(errors="replace").split("\n"):
        text, _, checksum = line.rpartition(" ")
        if text[:2] in ("+ ", "- ") and checksum == f"{zlib.crc32(text.encode()):08x}":
            names[text[0]].add(text[2:])
    return names["+"], names["-"]
