"""A journal of one process that writes rows to another journal in larger parts: for a replay, which a crash ends."""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import BinaryIO, ClassVar

import polars as pl

from tidemill.core.resources import Journal
from tidemill.journal.selection import require_known_at, select_known, sort_known

_APPENDS = 32
_ROWS = 50_000


class BufferedJournal:
    """Keeps the newest rows of each kind in memory; readers of this journal see them, other processes do not."""

    writable: ClassVar[bool] = True

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._newest: dict[str, list[pl.DataFrame]] = {}

    def append(self, kind: str, frame: pl.DataFrame) -> None:
        """Add rows with a UTC column `known_at` without nulls.

        Raises
        ------
        DataError
            if they do not have that column.
        TidemillError
            if the rows in memory cannot be written.
        """
        if frame.is_empty():
            return
        require_known_at(kind, frame)
        newest = self._newest.setdefault(kind, [])
        newest.append(frame)
        if len(newest) >= _APPENDS or sum(part.height for part in newest) >= _ROWS:
            self._flush(kind)
            self._journal.tidy(kind)

    def flush(self) -> None:
        """Write all rows that are in memory.

        Raises
        ------
        TidemillError
            if they cannot be written.
        """
        for kind in list(self._newest):
            self._flush(kind)

    def _flush(self, kind: str) -> None:
        newest = self._newest.get(kind)
        if newest:
            self._journal.append(kind, sort_known(_stack(newest)))
            del self._newest[kind]

    def read(self, kind: str, since: datetime | None = None, until: datetime | None = None) -> pl.DataFrame:
        """Return the rows of a kind with `since < known_at <= until`, in the order of `known_at`."""
        written = self._journal.read(kind, since, until)
        newest = self._newest.get(kind)
        if not newest:
            return written
        if len(newest) > 1:
            newest[:] = [sort_known(_stack(newest))]
        rows = select_known(newest[0], since, until)
        both = _stack([written, rows]) if written.width else rows
        return sort_known(both)

    def kinds(self) -> list[str]:
        """Return the kinds that have rows."""
        return sorted({*self._journal.kinds(), *self._newest})

    def erase(
        self,
        kind: str,
        matches: Callable[[pl.DataFrame], pl.Series],
        until: datetime | None = None,
        *,
        dry_run: bool = False,
    ) -> int:
        """Delete the rows for which `matches` is true (among those known by `until`); return the number of rows."""
        self._flush(kind)
        return self._journal.erase(kind, matches, until, dry_run=dry_run)

    def tidy(self, kind: str) -> None:
        """Write the rows that are in memory, and merge small segments."""
        self._flush(kind)
        self._journal.tidy(kind)

    def export(self) -> Iterator[tuple[str, BinaryIO]]:
        """Iterate over the files of the journal."""
        self.flush()
        yield from self._journal.export()

    def load(self, files: Iterable[tuple[str, BinaryIO]]) -> None:
        """Fill an empty journal from an export."""
        self._journal.load(files)


def _stack(frames: list[pl.DataFrame]) -> pl.DataFrame:
    return pl.concat(frames, how="diagonal_relaxed") if len(frames) > 1 else frames[0]
