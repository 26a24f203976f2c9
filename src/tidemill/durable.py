"""Files that survive a power failure: bytes and names are flushed to the disk before anything relies on them."""

import os
import time
from contextlib import suppress
from pathlib import Path


def flush_folder(folder: str | Path) -> None:
    """Flush the names in a folder to the disk, so that a file that was created, renamed or deleted stays so."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_draft(draft: str | Path, content: bytes | memoryview, *, durable: bool = True) -> None:
    """Write a new file that will be renamed; with `durable`, its bytes are on the disk before the rename."""
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, content)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Write all bytes; a disk that gets full in the middle raises `OSError`."""
    remaining = memoryview(content)
    while remaining:
        remaining = remaining[os.write(descriptor, remaining) :]


def replace_durably(file: Path, draft: Path, content: bytes | memoryview) -> None:
    """Replace a file with new bytes, atomically: after a crash of the machine it has the old or the new bytes.

    Raises
    ------
    OSError
        if the bytes cannot be written; the file is unchanged then, and the draft is deleted.
    """
    try:
        write_draft(draft, content)
        draft.replace(file)
    except OSError:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    flush_folder(file.parent)


def is_abandoned(draft: Path, seconds: float) -> bool:
    """Return whether nobody has written a draft for this many seconds."""
    try:
        return time.time() - draft.stat().st_mtime >= seconds
    except FileNotFoundError:
        return False
