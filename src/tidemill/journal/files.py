"""The journal: rows that arrive, in columnar segments that are there whole or not at all."""

import os
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, ClassVar

import polars as pl

from tidemill.errors import DataError, TidemillError
from tidemill.journal.copying import exported, loaded
from tidemill.locks import lock_file

_NAME = re.compile(r"^(-?\d+)-(-?\d+)-([0-9a-f]+)\.arrow$")
_EMPTY = "1-0"  # the span of a segment without rows, which only replaces others
_SMALL = 4 << 20  # bytes: a segment of this size is never joined again
_TRIES = 20


class FileJournal:
    """Segments as Arrow files in one folder for each kind, named by the span of `known_at` inside (µs)."""

    writable: ClassVar[bool] = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, kind: str, frame: pl.DataFrame) -> None:
        """Write rows that have a UTC column `known_at`, without nulls.

        Raises
        ------
        DataError
            if they have none.
        TidemillError
            if they cannot be written: nothing of them is kept.
        """
        if frame.is_empty():
            return
        if frame.schema.get("known_at") != pl.Datetime("us", "UTC") or frame["known_at"].null_count():
            raise DataError(
                f"rows for the journal {kind!r} have no UTC column 'known_at' that is full", "say when each was known"
            )
        self._write(kind, frame, uuid.uuid4().hex[:12])

    def _write(self, kind: str, frame: pl.DataFrame, unique: str) -> None:
        known = frame["known_at"]
        span = f"{_micros(known.min())}-{_micros(known.max())}" if frame.height else _EMPTY
        folder = self._folder / kind
        draft = folder / f".{unique}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # The newer form would write what stands in memory of rows that were filtered out, too.
            frame.write_ipc(draft, compression="lz4", compat_level=pl.CompatLevel.oldest())
            draft.replace(folder / f"{span}-{unique}.arrow")
        except (OSError, pl.exceptions.PolarsError) as refused:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            raise TidemillError(
                f"{frame.height} rows could not be written to the journal {folder}: {refused}",
                "check free space and permissions; nothing half-written was kept",
            ) from None

    def read(self, kind: str, since: datetime | None = None, until: datetime | None = None) -> pl.DataFrame:
        """The rows of a kind with `since < known_at <= until`, in the order of becoming known."""
        parts = self._parts(kind, since, until)
        if not parts:
            return pl.DataFrame()
        rows = pl.concat(parts, how="diagonal_relaxed") if len(parts) > 1 else parts[0]
        if since is not None:
            rows = rows.filter(pl.col("known_at") > since)
        if until is not None:
            rows = rows.filter(pl.col("known_at") <= until)
        return rows.sort("known_at", maintain_order=True)

    def kinds(self) -> list[str]:
        """The kinds that have rows."""
        return sorted(
            str(folder.relative_to(self._folder)) for folder in self._folder.rglob("*") if any(folder.glob("*.arrow"))
        )

    def tidy(self, kind: str, keep: int = 32) -> None:
        """Join the small segments of a kind into one where there are more than `keep`: readers see the same rows."""
        folder = self._folder / kind
        if not folder.is_dir():
            return
        with lock_file(folder / ".compacting", wait=False) as mine:
            if not mine:
                return
            self._finish(folder)
            small = [segment for segment in self._segments(kind, None, None) if segment.stat().st_size < _SMALL]
            if len(small) > keep:
                rows = pl.concat([pl.read_ipc(segment) for segment in small], how="diagonal_relaxed")
                self._replace(kind, small, rows)

    def erase(
        self,
        kind: str,
        matches: Callable[[pl.DataFrame], pl.Series],
        until: datetime | None = None,
        *,
        dry_run: bool = False,
    ) -> int:
        """Drop the rows for which `of` is true (of those known by `until`); how many went, or would go.

        Readers see all of them or none; what is appended meanwhile is not looked at.

        Raises
        ------
        TidemillError
            if it cannot be written: all rows are still there.
        """
        folder = self._folder / kind
        if not folder.is_dir():
            return 0
        with lock_file(folder / ".compacting"):
            self._finish(folder)
            touched, left, gone = [], [], 0
            for segment in self._segments(kind, None, until):
                rows = pl.read_ipc(segment)
                marked = matches(rows).fill_null(value=False)
                if marked.any():
                    touched.append(segment)
                    left.append(rows.filter(~marked))
                    gone += int(marked.sum())
            if touched and not dry_run:
                self._replace(kind, touched, pl.concat(left, how="diagonal_relaxed"))
        return gone

    def export(self) -> Iterator[tuple[str, BinaryIO]]:
        """Each segment, open until the next is asked for; no segment of a kind is deleted meanwhile."""
        for kind in self.kinds():
            folder = self._folder / kind
            with lock_file(folder / ".compacting"):
                self._finish(folder)
                yield from exported(self._folder, sorted(folder.glob("*.arrow")))

    def load(self, files: Iterable[tuple[str, BinaryIO]]) -> None:
        """Fill an empty journal from an export."""
        loaded(self._folder, files)

    def _replace(self, kind: str, segments: list[Path], rows: pl.DataFrame) -> None:
        """Put rows in the place of segments, in one move.

        A list of what the new segment replaces is written before it; a reader that sees both leaves the replaced
        ones out, so that a crash at any point neither loses nor doubles a row.
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
        """Finish what a compaction began: away with segments that are replaced, then with the lists of them."""
        for name in self._replaced(folder, {file.name for file in folder.glob("*.arrow")}):
            (folder / name).unlink(missing_ok=True)
        for listed in folder.glob(".*.replaces"):
            listed.unlink()
        for empty in folder.glob(f"{_EMPTY}-*.arrow"):
            empty.unlink()

    def _parts(self, kind: str, since: datetime | None, until: datetime | None) -> list[pl.DataFrame]:
        for _ in range(_TRIES):
            try:
                return [pl.read_ipc(file) for file in self._segments(kind, since, until)]
            except FileNotFoundError:  # a compaction took it away meanwhile: what replaces it is there
                continue
        raise TidemillError(f"the segments of the journal {kind!r} keep changing", "try again")

    def _segments(self, kind: str, since: datetime | None, until: datetime | None) -> Iterator[Path]:
        folder = self._folder / kind
        names = {file.name for file in folder.glob("*.arrow")}
        for name in sorted(names - self._replaced(folder, names)):
            span = _NAME.match(name)
            if not span or (since and int(span[2]) <= _micros(since)) or (until and int(span[1]) > _micros(until)):
                continue
            yield folder / name

    def _replaced(self, folder: Path, names: set[str]) -> set[str]:
        joined = {span[3] for name in names if (span := _NAME.match(name))}
        lists = [file for file in folder.glob(".*.replaces") if file.name.split(".")[1] in joined]
        return {name for file in lists for name in file.read_text().split("\n")}


def _micros(moment: object) -> int:
    assert isinstance(moment, datetime)
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
