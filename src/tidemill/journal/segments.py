"""Reads segments, verified by their checksums. A segment never changes, so it is read from the disk once."""

import errno
import io
import threading
from collections import OrderedDict
from pathlib import Path

import polars as pl

from tidemill.errors import Corrupt, TidemillError
from tidemill.journal.names import is_content

_LIMIT = 128 << 20  # bytes of rows
_MOST = 2_000  # segments: each takes some memory besides its rows
_REFUSED = (errno.EACCES, errno.EPERM, errno.EIO, errno.EISDIR, errno.ELOOP)


class UnreadableSegment(TidemillError):
    """The system refuses to read a segment; its bytes may be right."""


def read_content(segment: str, kind: str) -> bytes:
    """Return the bytes of a segment, verified.

    Raises
    ------
    FileNotFoundError
        if it does not exist.
    Corrupt
        if its bytes are not those that were written.
    UnreadableSegment
        if the system refuses to read it.
    """
    file = Path(segment)
    try:
        content = file.read_bytes()
    except OSError as error:
        if error.errno not in _REFUSED:
            raise
        raise UnreadableSegment(
            f"the journal file {file} cannot be read: {error.strerror}", "check its permissions and the disk"
        ) from None
    if not is_content(file.name, kind, content):
        state = "is empty" if not content else "does not have the bytes that were written"
        raise Corrupt(f"the journal file {file} {state}", "`tidemill doctor` lists and mends damaged files")
    return content


def read_segment(segment: str, kind: str) -> pl.DataFrame:
    """Return the rows of a segment, verified; the errors are those of `read_content`.

    A segment of an earlier version has no checksum: damage is found only if its form cannot be read.
    """
    content = read_content(segment, kind)
    try:
        return pl.read_ipc(io.BytesIO(content))
    except (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException, MemoryError) as error:
        problem = str(error).split("\n")[0] or type(error).__name__
        raise Corrupt(
            f"the journal file {segment} cannot be read: {problem}", "`tidemill doctor` lists and mends damaged files"
        ) from None


class SegmentCache:
    """The rows of the segments that were used last, up to 128 MiB; used by several threads."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._rows: OrderedDict[str, tuple[pl.DataFrame, int]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def read(self, segment: str, kind: str) -> pl.DataFrame:
        """Return the rows of a segment, by its path; the errors are those of `read_segment`.

        A segment that was deleted is missing, also if its rows are known: a compaction has replaced it.
        """
        with self._lock:
            known = self._rows.get(segment)
            if known is not None:
                self._rows.move_to_end(segment)
        if known is not None:
            Path(segment).stat()
            return known[0]
        rows = read_segment(segment, kind)
        size = int(rows.estimated_size())
        with self._lock:
            if size <= self._limit // 2 and segment not in self._rows:
                self._rows[segment] = rows, size
                self._size += size
            while self._size > self._limit or len(self._rows) > _MOST:
                self._size -= self._rows.popitem(last=False)[1][1]
        return rows

    def keep(self, folder: str, names: set[str]) -> None:
        """Forget the segments of a folder that no longer exist: their rows may have been erased."""
        with self._lock:
            for segment in list(self._rows):
                parent, _, name = segment.rpartition("/")
                if name not in names and parent == folder:
                    self._size -= self._rows.pop(segment)[1]
