"""File locks between threads and processes; the operating system releases them when their owner dies."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lock_file(file: Path, *, wait: bool = True, shared: bool = False) -> Iterator[bool]:
    """Lock a file during the block, exclusively or `shared`; without `wait`, yield False if another owner locks it."""
    with open(file, "a", opener=_open_private) as handle:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True


def _open_private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
