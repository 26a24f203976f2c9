"""The rows of segments that were read before: a segment never changes, so it is read from the disk once."""

import threading
from collections import OrderedDict
from pathlib import Path

import polars as pl

_LIMIT = 128 << 20  # bytes of rows


class SegmentCache:
    """The rows of the segments that were used last, up to 128 MiB; used by several threads."""

    def __init__(self, limit: int = _LIMIT) -> None:
        self._limit = limit
        self._rows: OrderedDict[str, tuple[pl.DataFrame, int]] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def read(self, segment: str) -> pl.DataFrame:
        """Return the rows of a segment, by its path.

        Raises
        ------
        FileNotFoundError
            if it was deleted, also if its rows are known: a compaction has replaced it.
        """
        with self._lock:
            known = self._rows.get(segment)
            if known is not None:
                self._rows.move_to_end(segment)
        if known is not None:
            Path(segment).stat()
            return known[0]
        rows = pl.read_ipc(segment)
        size = int(rows.estimated_size())
        with self._lock:
            if size <= self._limit // 2 and segment not in self._rows:
                self._rows[segment] = rows, size
                self._size += size
            while self._size > self._limit:
                self._size -= self._rows.popitem(last=False)[1][1]
        return rows

    def keep(self, folder: str, names: set[str]) -> None:
        """Forget the segments of a folder that no longer exist: their rows may have been erased."""
        with self._lock:
            for segment in list(self._rows):
                parent, _, name = segment.rpartition("/")
                if name not in names and parent == folder:
                    self._size -= self._rows.pop(segment)[1]
