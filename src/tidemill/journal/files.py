"""The journal: rows in columnar files (segments), which are written atomically and verified when they are read."""

import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, ClassVar

import polars as pl

from tidemill.core.damage import Damage
from tidemill.durable import flush_folder, is_abandoned, write_draft
from tidemill.errors import Corrupt, TidemillError
from tidemill.faults import maybe_crash
from tidemill.journal import inventory
from tidemill.journal.copying import open_verified, write_files
from tidemill.journal.damages import list_damages, set_aside
from tidemill.journal.names import (
    EMPTY,
    format_name,
    is_content,
    list_names,
    list_replaced,
    parse_name,
    to_microseconds,
)
from tidemill.journal.segments import SegmentCache, UnreadableSegment, read_segment
from tidemill.journal.selection import require_known_at, select_known, sort_known, stack
from tidemill.journal.spool import ENDING, AbandonedSpool, Spool, serialize
from tidemill.locks import lock_file
from tidemill.presence import StoreFolder
from tidemill.telemetry import get_logger

log = get_logger("journal")
_SMALL = 4 << 20  # bytes; a larger segment is never merged again
_MERGED = 8 << 20  # bytes of the segments that are merged at a time, which bounds the memory
_MERGED_FILES = 1_000
_MANY = 512  # files; a reader merges the small segments first
_ABANDONED_SECONDS = 60.0  # a writer that is so slow fails cleanly: its draft is gone
_TRIES = 20


class FileJournal:
    """Segments as Arrow files, in a folder for each kind; their names have the range of `known_at` (µs) and a checksum.

    With `durable`, the rows of `append` survive a power failure. A segment with other bytes than were written is set
    aside under the name `NAME.damaged`, and the other rows are read.
    """

    writable: ClassVar[bool] = True

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self._folder = folder
        self._durable = durable
        self._store = StoreFolder(folder, "the journal")
        self._cache = SegmentCache()

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

    def open_spool(self, kind: str) -> Spool:
        """Open a file for rows that must be on the disk before a reply; `append_spool` turns it into a segment."""
        self._store.make(kind)
        return Spool(self._folder / kind, kind, durable=self._durable)

    def append_spool(self, spool: Spool, frame: pl.DataFrame) -> None:
        """Write the rows of a spool as a segment, and delete the spool; the errors are those of `append`."""
        require_known_at(spool.kind, frame)
        self._write(spool.kind, frame, spool.identifier)
        maybe_crash("spool is a segment")
        with suppress(OSError):  # a spool whose segment exists is not read again
            spool.delete()

    def read(self, kind: str, since: datetime | None = None, until: datetime | None = None) -> pl.DataFrame:
        """Return the rows of a kind with `since < known_at <= until`, in the order of `known_at`.

        Damaged segments are set aside and reported in the log; their rows are missing.
        """
        names = list_names(f"{self._folder}/{kind}")
        try:
            if any(name.endswith(ENDING) for name in names):
                self._take_up(kind)
            if len(names) > _MANY:
                self.tidy(kind)
        except (TidemillError, OSError) as refused:  # a journal that cannot be written can still be read
            log.warning("the files of the journal %s cannot be merged now: %s", kind, refused)
        parts = self._parts(kind, since, until)
        return sort_known(stack(parts)) if parts else pl.DataFrame()

    def kinds(self) -> list[str]:
        """Return the kinds that have rows."""
        self._store.require()
        return sorted(
            str(folder.relative_to(self._folder))
            for folder in self._folder.rglob("*")
            if any(name.endswith((".arrow", ENDING)) for name in _list_folder(folder))
        )

    def tidy(self, kind: str, keep: int = 32) -> None:
        """Merge the small segments of a kind if there are more than `keep`; readers see the same rows.

        It also takes up the rows of killed writers, and deletes their drafts.
        """
        self._store.require()
        folder = self._folder / kind
        if not folder.is_dir():
            return
        with lock_file(folder / ".compacting", wait=False) as is_locked:
            if not is_locked:
                return
            self._finish(kind)
            while group := self._choose_group(kind, keep):
                parts = [rows for segment in group if (rows := self._read_part(segment, kind)) is not None]
                whole = [segment for segment in group if Path(segment).exists()]
                if parts:
                    self._replace(kind, whole, sort_known(stack(parts)))

    def erase(
        self,
        kind: str,
        matches: Callable[[pl.DataFrame], pl.Series],
        until: datetime | None = None,
        *,
        dry_run: bool = False,
    ) -> int:
        """Delete the rows for which `matches` is true (among those known by `until`); return the number of rows.

        Readers see all of these rows or none; rows that are appended at the same time are not checked. Rows in damaged
        segments are not found: `damages` lists these files.

        Raises
        ------
        TidemillError
            if the journal cannot be written; no row is deleted then.
        """
        self._store.require()
        folder = self._folder / kind
        if not folder.is_dir():
            return 0
        with lock_file(folder / ".compacting"):
            self._finish(kind)
            changed, remaining, count = [], [], 0
            for segment in self._files(kind, None, until):
                rows = self._read_part(segment, kind, cached=False)
                if rows is None:
                    continue
                marked = matches(rows).fill_null(value=False)
                if marked.any():
                    changed.append(segment)
                    remaining.append(rows.filter(~marked))
                    count += int(marked.sum())
            if changed and not dry_run:
                self._replace(kind, changed, pl.concat(remaining, how="diagonal_relaxed"))
        return count

    def check(self) -> Iterator[Damage]:
        """Read and verify every segment; set damaged ones aside, and yield each damaged or missing one."""
        for kind in self.kinds():
            with suppress(OSError, TidemillError), lock_file(self._folder / kind / ".compacting"):
                self._finish(kind)
            for segment in self._files(kind, None, None):
                self._read_part(segment, kind, cached=False)
        yield from self.damages()

    def damages(self) -> list[Damage]:
        """Return the segments that are set aside, missing, or not readable."""
        self._store.require()
        return list_damages(self._folder)

    def accept_loss(self, name: str) -> None:
        """Stop reporting a damaged or missing file, by its name in `damages`: its rows are lost."""
        file = self._folder / name
        folder = file.parent
        with lock_file(folder / ".compacting"):
            file.with_name(f"{file.name}.damaged").unlink(missing_ok=True)
            inventory.rewrite(folder, _list_segments(str(folder)), [file.name])

    def put_back(self, name: str, content: bytes) -> bool:
        """Write the bytes of a damaged or missing segment again; return False if they are not its bytes."""
        file = self._folder / name
        kind, parts = str(Path(name).parent), parse_name(file.name)
        if parts is None or not is_content(file.name, kind, content):
            return False
        draft = self._store.make(kind) / f".{parts.identifier}.{os.getpid()}"
        write_draft(draft, content)
        draft.replace(file)
        flush_folder(file.parent)
        file.with_name(f"{file.name}.damaged").unlink(missing_ok=True)
        return True

    def export(self) -> Iterator[tuple[str, BinaryIO]]:
        """Iterate over the segments, each verified and open until the next; damaged ones are set aside, not copied.

        No segment of the current kind is deleted meanwhile.
        """
        for kind in self.kinds():
            folder = self._folder / kind
            with lock_file(folder / ".compacting"):
                self._finish(kind)
                yield from open_verified(self._folder, sorted(folder.glob("*.arrow")), kind, set_aside)

    def load(self, files: Iterable[tuple[str, BinaryIO]]) -> None:
        """Fill an empty journal from an export."""
        write_files(self._store, files)

    def _write(self, kind: str, frame: pl.DataFrame, identifier: str, replaced: Sequence[str] = ()) -> None:
        """Write rows as a segment; a list of the segments that it replaces is written before it gets its name."""
        known = frame["known_at"]
        span = f"{to_microseconds(known.min())}-{to_microseconds(known.max())}" if frame.height else EMPTY
        folder = self._folder / kind
        draft = segment = folder / f".{identifier}.{os.getpid()}"
        try:
            self._store.make(kind)
            content = serialize(frame)
            name = format_name(kind, span, identifier, content)
            write_draft(draft, content, durable=self._durable)
            maybe_crash("segment is drafted")
            if replaced:
                unique = name[len(span) + 1 : -len(".arrow")]
                (folder / f".{unique}.replaces").write_text("\n".join(replaced))
            segment = draft.replace(folder / name)
            maybe_crash("segment is stored")
            if self._durable:
                flush_folder(folder)
        except (OSError, pl.exceptions.PolarsError) as refused:
            for written in (draft, segment):
                with suppress(OSError):
                    written.unlink(missing_ok=True)
            raise TidemillError(
                f"{frame.height} rows could not be written to the journal {folder}: {refused}",
                "check free space and permissions; no row was written",
            ) from None
        inventory.record_segment(str(folder), name)

    def _replace(self, kind: str, segments: Sequence[str], rows: pl.DataFrame) -> None:
        """Replace segments with rows, atomically.

        A list of the replaced segments is written before the new segment. A reader that sees both ignores the replaced
        segments, so a crash at any point neither loses nor duplicates a row.
        """
        self._write(kind, rows, uuid.uuid4().hex[:12], [Path(segment).name for segment in segments])
        self._finish(kind)

    def _finish(self, kind: str) -> None:
        """Finish the work of writers that were killed: their compactions, spools and drafts."""
        folder = self._folder / kind
        present = {file.name for file in folder.glob("*.arrow")}
        replaced = list_replaced(str(folder), present)
        for name in replaced:
            (folder / name).unlink(missing_ok=True)
        empty = {name for name in present if name.startswith(f"{EMPTY}-")}
        for name in empty:
            (folder / name).unlink(missing_ok=True)
        if replaced or empty:
            inventory.rewrite(folder, _list_segments(str(folder)), replaced | empty)
        for listed in folder.glob(".*.replaces"):
            listed.unlink()
        self._take_up(kind)
        for draft in folder.glob(".*.*"):
            if draft.name.rpartition(".")[2].isdecimal() and is_abandoned(draft, _ABANDONED_SECONDS):
                draft.unlink(missing_ok=True)

    def _take_up(self, kind: str) -> None:
        """Write the spooled rows of killed services as segments."""
        folder = self._folder / kind
        for name in list_names(str(folder)):
            spool = AbandonedSpool(folder / name, kind) if name.endswith(ENDING) else None
            if spool is None or not spool.lock():
                continue
            try:
                written = (parse_name(other) for other in list_names(str(folder)))
                if not any(other is not None and other.identifier == spool.identifier for other in written):
                    frames, damaged = spool.read()
                    if damaged:
                        log.error("%d records of %s are damaged; the rows of the others are kept", damaged, spool.file)
                        (folder / f"{name}.damaged").write_bytes(spool.file.read_bytes())
                    if frames:
                        self._write(kind, stack(frames), spool.identifier)
                        log.warning("took up %d rows of a killed service", sum(frame.height for frame in frames))
                spool.file.unlink(missing_ok=True)
            finally:
                spool.close()

    def _choose_group(self, kind: str, keep: int) -> list[str]:
        """Return the next small segments to merge, oldest first; none if there are at most `keep`."""
        small: list[str] = []
        size = 0
        sizes = [(segment, Path(segment).stat().st_size) for segment in self._files(kind, None, None)]
        # Listed after the segments: the writer of one that is still spooled has yet to delete its spool.
        spooled = {name[1 : -len(ENDING)] for name in list_names(f"{self._folder}/{kind}") if name.endswith(ENDING)}
        mergeable = [
            (segment, length)
            for segment, length in sizes
            if length < _SMALL and (name := parse_name(Path(segment).name)) and name.identifier not in spooled
        ]
        if len(mergeable) <= keep:
            return []
        for segment, length in mergeable:
            if small and (size + length > _MERGED or len(small) >= _MERGED_FILES):
                break
            small.append(segment)
            size += length
        return small if len(small) > 1 else []

    def _parts(self, kind: str, since: datetime | None, until: datetime | None) -> list[pl.DataFrame]:
        """Return the rows of each segment with `since < known_at <= until`."""
        for _ in range(_TRIES):
            try:
                files = self._files(kind, since, until)
                parts = ((file, self._read_part(file, kind)) for file in files)
                return [_select(rows, file, since, until) for file, rows in parts if rows is not None]
            except FileNotFoundError:  # a compaction has replaced the segment
                continue
        raise TidemillError(f"other processes keep changing the segments of the journal {kind!r}", "try again")

    def _read_part(self, segment: str, kind: str, *, cached: bool = True) -> pl.DataFrame | None:
        """Return the rows of a segment; None for a damaged one, which is set aside, or one that is not readable."""
        try:
            return self._cache.read(segment, kind) if cached else read_segment(segment, kind)
        except Corrupt as damage:
            set_aside(segment, kind, str(damage.problem))
        except UnreadableSegment as refused:
            log.error("%s; its rows are missing", refused.problem)
        return None

    def _files(self, kind: str, since: datetime | None, until: datetime | None) -> list[str]:
        """Return the segments of a kind that can have rows with `since < known_at <= until`, in the order of time."""
        self._store.require()
        folder = f"{self._folder}/{kind}"
        names = _list_segments(folder)
        self._cache.keep(folder, names)
        after, last = to_microseconds(since) if since else None, to_microseconds(until) if until else None
        files = []
        for name in sorted(names):
            span = parse_name(name)
            if span and (after is None or span.last > after) and (last is None or span.first <= last):
                files.append(f"{folder}/{name}")
        return files


def _list_folder(folder: Path) -> list[str]:
    return list_names(str(folder)) if folder.is_dir() else []


def _list_segments(folder: str) -> set[str]:
    """Return the names of a kind's segments, without those that a newer segment has replaced."""
    names = {name for name in list_names(folder) if name.endswith(".arrow")}
    return names - list_replaced(folder, names)


def _select(rows: pl.DataFrame, file: str, since: datetime | None, until: datetime | None) -> pl.DataFrame:
    """Return the rows of a segment with `since < known_at <= until`; its name has the range of its rows."""
    span = parse_name(file.rpartition("/")[2])
    assert span is not None
    begins = since is not None and span.first <= to_microseconds(since)
    ends = until is not None and span.last > to_microseconds(until)
    return select_known(rows, since if begins else None, until if ends else None)
