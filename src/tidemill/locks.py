"""Locks between threads and processes, by a file; the system opens them when their holder dies."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def lock_file(file: Path, *, wait: bool = True, shared: bool = False) -> Iterator[bool]:
    """Hold the lock of a file for the block, alone or `shared`; without `wait`, False where another holds it."""
    with file.open("a") as handle:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
