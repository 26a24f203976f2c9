"""The journal: rows in columnar files (segments), which are written atomically."""

import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np
import polars as pl

from tidemill.errors import DataError, TidemillError
from tidemill.journal.copying import open_files, write_files
from tidemill.journal.segments import SegmentCache
from tidemill.locks import lock_file

_NAME = re.compile(r"^(-?\d+)-(-?\d+)-([0-9a-f]+)\.arrow$")
_EMPTY = "1-0"  # the time range of a segment without rows, which only replaces other segments
_SMALL = 4 << 20  # bytes; a larger segment is never merged again
_TRIES = 20


class FileJournal:
    """Segments as Arrow files, in a folder for each kind; their names have the range of `known_at` (µs)."""

    writable: ClassVar[bool] = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cache = SegmentCache()
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, kind: str, frame: pl.DataFrame) -> None:
        """Write rows with a UTC column `known_at` without nulls.

        Raises
        ------
        DataError
            if they do not have that column.
        TidemillError
            if they cannot be written; no row is written then.
        """
        if frame.is_empty():
            return
        require_known_at(kind, frame)
        self._write(kind, frame, uuid.uuid4().hex[:12])

    def _write(self, kind: str, frame: pl.DataFrame, unique: str) -> None:
        known = frame["known_at"]
        span = f"{_to_microseconds(known.min())}-{_to_microseconds(known.max())}" if frame.height else _EMPTY
        folder = self._folder / kind
        draft = folder / f".{unique}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # The newer format would also write rows that were filtered out and are still in memory.
            frame.write_ipc(draft, compression="lz4", compat_level=pl.CompatLevel.oldest())
            draft.replace(folder / f"{span}-{unique}.arrow")
        except (OSError, pl.exceptions.PolarsError) as refused:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise TidemillError(
                f"{frame.height} rows could not be written to the journal {folder}: {refused}",
                "check free space and permissions; no row was written",
            ) from None

    def read(self, kind: str, since: datetime | None = None, until: datetime | None = None) -> pl.DataFrame:
        """Return the rows of a kind with `since < known_at <= until`, in the order of `known_at`."""
        parts = self._parts(kind, since, until)
        if not parts:
            return pl.DataFrame()
        rows = pl.concat(parts, how="diagonal_relaxed") if len(parts) > 1 else parts[0]
        return sort_known(rows)

    def kinds(self) -> list[str]:
        """Return the kinds that have rows."""
        return sorted(
            str(folder.relative_to(self._folder)) for folder in self._folder.rglob("*") if any(folder.glob("*.arrow"))
        )

    def tidy(self, kind: str, keep: int = 32) -> None:
        """Merge the small segments of a kind if there are more than `keep`; readers see the same rows."""
        folder = self._folder / kind
        if not folder.is_dir():
            return
        with lock_file(folder / ".compacting", wait=False) as is_locked:
            if not is_locked:
                return
            self._finish(folder)
            small = [segment for segment in self._segments(kind, None, None) if segment.stat().st_size < _SMALL]
            if len(small) > keep:
                rows = pl.concat([self._cache.read(str(segment)) for segment in small], how="diagonal_relaxed")
                self._replace(kind, small, sort_known(rows))

    def erase(
        self,
        kind: str,
        matches: Callable[[pl.DataFrame], pl.Series],
        until: datetime | None = None,
        *,
        dry_run: bool = False,
    ) -> int:
        """Delete the rows for which `matches` is true (among those known by `until`); return the number of rows.

        Readers see all of these rows or none; rows that are appended at the same time are not checked.

        Raises
        ------
        TidemillError
            if the journal cannot be written; no row is deleted then.
        """
        folder = self._folder / kind
        if not folder.is_dir():
            return 0
        with lock_file(folder / ".compacting"):
            self._finish(folder)
            changed, remaining, count = [], [], 0
            for segment in self._segments(kind, None, until):
                rows = pl.read_ipc(segment)
                marked = matches(rows).fill_null(value=False)
                if marked.any():
                    changed.append(segment)
                    remaining.append(rows.filter(~marked))
                    count += int(marked.sum())
            if changed and not dry_run:
                self._replace(kind, changed, pl.concat(remaining, how="diagonal_relaxed"))
        return count

    def export(self) -> Iterator[tuple[str, BinaryIO]]:
        """Iterate over the segments, each open until the next; no segment of the current kind is deleted."""
        for kind in self.kinds():
            folder = self._folder / kind
            with lock_file(folder / ".compacting"):
                self._finish(folder)
                yield from open_files(self._folder, sorted(folder.glob("*.arrow")))

    def load(self, files: Iterable[tuple[str, BinaryIO]]) -> None:
        """Fill an empty journal from an export."""
        write_files(self._folder, files)

    def _replace(self, kind: str, segments: list[Path], rows: pl.DataFrame) -> None:
        """Replace segments with rows, atomically.

        A list of the replaced segments is written before the new segment. A reader that sees both ignores the replaced
        segments, so a crash at any point neither loses nor duplicates a row.
        """
        folder = self._folder / kind
        unique = uuid.uuid4().hex[:12]
        try:
            (folder / f".{unique}.replaces").write_text("\n".join(segment.name for segment in segments))
            self._write(kind, rows, unique)
        except OSError as refused:
            raise TidemillError(
                f"the journal {folder} cannot be written: {refused}", "check free space and permissions; no row is lost"
            ) from None
        self._finish(folder)

    def _finish(self, folder: Path) -> None:
        """Finish a compaction: delete the replaced segments, then the lists of them."""
        for name in _list_replaced(str(folder), {file.name for file in folder.glob("*.arrow")}):
            (folder / name).unlink(missing_ok=True)
        for listed in folder.glob(".*.replaces"):
            listed.unlink()
        for empty in folder.glob(f"{_EMPTY}-*.arrow"):
            empty.unlink()

    def _parts(self, kind: str, since: datetime | None, until: datetime | None) -> list[pl.DataFrame]:
        """Return the rows of each segment with `since < known_at <= until`."""
        for _ in range(_TRIES):
            try:
                return [_select(self._cache.read(file), file, since, until) for file in self._files(kind, since, until)]
            except FileNotFoundError:  # a compaction has replaced the segment
                continue
        raise TidemillError(f"other processes keep changing the segments of the journal {kind!r}", "try again")

    def _segments(self, kind: str, since: datetime | None, until: datetime | None) -> list[Path]:
        return [Path(file) for file in self._files(kind, since, until)]

    def _files(self, kind: str, since: datetime | None, until: datetime | None) -> list[str]:
        """Return the segments of a kind that can have rows with `since < known_at <= until`, in the order of time."""
        folder = f"{self._folder}/{kind}"
        names = _list_segments(folder)
        self._cache.keep(folder, names)
        after, last = _to_microseconds(since) if since else None, _to_microseconds(until) if until else None
        files = []
        for name in sorted(names):
            span = _parse_span(name)
            if span and (after is None or span[1] > after) and (last is None or span[0] <= last):
                files.append(f"{folder}/{name}")
        return files


@lru_cache(maxsize=10_000)
def _parse_span(name: str) -> tuple[int, int] | None:
    """Return the range of `known_at` in the name of a segment, in microseconds; None for the name of another file."""
    span = _NAME.match(name)
    return (int(span[1]), int(span[2])) if span else None


def _list_segments(folder: str) -> set[str]:
    """Return the names of a kind's segments, without those that a newer segment has replaced."""
    names = {name for name in _list_names(folder) if name.endswith(".arrow")}
    return names - _list_replaced(folder, names)


def _list_replaced(folder: str, names: set[str]) -> set[str]:
    """Return the segments that a newer segment has replaced; a list without its segment replaces nothing.

    The lists are read after the names: a new segment among the names has its list then, or its compaction is finished.
    """
    lists = [name for name in _list_names(folder) if name.endswith(".replaces")]
    if not lists:
        return set()
    joined = {span[3] for name in names if (span := _NAME.match(name))}
    valid = [name for name in lists if name.split(".")[1] in joined]
    return {replaced for name in valid for replaced in Path(folder, name).read_text().split("\n")}


def _list_names(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries]
    except FileNotFoundError:
        return []


def _select(rows: pl.DataFrame, file: str, since: datetime | None, until: datetime | None) -> pl.DataFrame:
    """Return the rows of a segment with `since < known_at <= until`; its name has the range of its rows."""
    span = _parse_span(file.rpartition("/")[2])
    assert span is not None
    begins = since is not None and span[0] <= _to_microseconds(since)
    ends = until is not None and span[1] > _to_microseconds(until)
    return select_known(rows, since if begins else None, until if ends else None)


def select_known(rows: pl.DataFrame, since: datetime | None, until: datetime | None) -> pl.DataFrame:
    """Return the rows with `since < known_at <= until`; a slice of them if they are in the order of `known_at`."""
    if since is None and until is None:
        return rows
    times = _list_times(rows)
    if not _is_sorted(times):
        above = pl.lit(value=True) if since is None else pl.col("known_at") > since
        below = pl.lit(value=True) if until is None else pl.col("known_at") <= until
        return rows.filter(above & below)
    first = 0 if since is None else int(np.searchsorted(times, _to_microseconds(since), "right"))
    last = len(times) if until is None else int(np.searchsorted(times, _to_microseconds(until), "right"))
    return rows.slice(first, max(last - first, 0))


def sort_known(rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows in the order of `known_at`; rows of the same time keep their order."""
    return rows if _is_sorted(_list_times(rows)) else rows.sort("known_at", maintain_order=True)


def _list_times(rows: pl.DataFrame) -> Any:
    return rows["known_at"].to_physical().to_numpy()


def _is_sorted(times: Any) -> bool:
    return bool((times[1:] >= times[:-1]).all())


def require_known_at(kind: str, frame: pl.DataFrame) -> None:
    """Raise `DataError` unless rows have a UTC column `known_at` without nulls."""
    if frame.schema.get("known_at") != pl.Datetime("us", "UTC") or frame["known_at"].null_count():
        raise DataError(
            f"rows for the journal {kind!r} have no UTC column 'known_at' without nulls",
            "add the time at which each row became known",
        )


def _to_microseconds(time: object) -> int:
    assert isinstance(time, datetime)
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
