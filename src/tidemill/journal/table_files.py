"""The files of a table, verified: a log beside them has the size and the checksum of each file that was written.

These are the files with rows, and the entries of Delta's log, without which rows would disappear silently. Files of
earlier versions of Tidemill have no entry until the table is written again: only their form is verified.
"""

import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import polars as pl

from tidemill.core.damage import Damage, DamageState
from tidemill.durable import replace_durably

CHECKSUMS = "_tidemill_checksums"
_CHUNK = 1 << 20
_LOG = "_delta_log"
_ENTRY = re.compile(rf"{_LOG}/(\d{{20}})\.json")
CURE = (
    "mend it from a backup: `tidemill doctor --mend --backup FILE`; without one, delete the folder of the table and "
    "ingest its source again: `tidemill run ingestion`"
)


class FileSum(NamedTuple):
    """The size of a file in bytes, and the CRC-32 of its bytes."""

    size: int
    checksum: int


class TableFiles:
    """The files of one table; those that this process has verified are verified again only if they change."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[FileSum, ...]] = {}
        self._newest_entry = -1
        self._read, self._log_file = 0, (0, b"")
        self._verified: dict[str, tuple[int, int]] = {}

    def record(self, names: Iterable[str]) -> None:
        """Write the sums of the files that have none."""
        self._read_log()
        lines = []
        for name in names:
            if name not in self._known:
                try:
                    found = _compute(self._folder / name)
                except FileNotFoundError:  # another process has replaced it
                    continue
                lines.append(_format(name, found))
        self._append(lines)

    def record_log(self, version: int) -> None:
        """Write the sums of the entries of Delta's log up to a version that have none."""
        self._read_log()
        self.record(_name_entry(number) for number in range(self._newest_entry + 1, version + 1))

    def announce(self, name: str, content: bytes) -> None:
        """Write the sum of bytes that are going to replace those of a file: until then, both are right."""
        self._append([_format(name, FileSum(len(content), zlib.crc32(content)))])

    def _append(self, lines: list[bytes]) -> None:
        if lines:
            descriptor = os.open(self._folder / CHECKSUMS, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, b"".join(lines))
            finally:
                os.close(descriptor)

    def verify_log(self) -> Iterator[Damage]:
        """Iterate over the entries of Delta's log since its checkpoint that are missing or damaged."""
        self._read_log()
        if self._newest_entry >= 0:
            numbers = range(self._find_checkpoint() + 1, self._newest_entry + 1)
            yield from self.verify(name for number in numbers if (name := _name_entry(number)) in self._known)

    def _find_checkpoint(self) -> int:
        """Return the version of the newest checkpoint; -1 if there is none."""
        log = self._folder / _LOG
        try:
            version = int(json.loads((log / "_last_checkpoint").read_bytes())["version"])
        except (OSError, ValueError, KeyError, TypeError):
            version = -1
        if version < 0 or not any(log.glob(f"{version:020}.checkpoint*.parquet")):
            version = max((int(file.name[:20]) for file in log.glob("*.checkpoint*.parquet")), default=-1)
        return version

    def verify(self, names: Iterable[str]) -> Iterator[Damage]:
        """Iterate over the files that are missing, or do not have the bytes that were written."""
        self._read_log()
        for name in names:
            try:
                status = (self._folder / name).stat()
                state = status.st_size, status.st_mtime_ns
                if self._verified.get(name) == state:
                    continue
                problem = self._find_problem(name, status.st_size)
            except FileNotFoundError:
                yield self._report(name, "missing", "was written and is gone")
                continue
            except OSError as error:
                yield self._report(name, "unreadable", f"cannot be read: {error.strerror}")
                continue
            if problem:
                yield self._report(name, "damaged", problem)
            else:
                self._verified[name] = state

    def put_back(self, name: str, content: bytes) -> bool:
        """Write the bytes of a file from a backup; return False if they are not those that were written."""
        self._read_log()
        if FileSum(len(content), zlib.crc32(content)) not in self._known.get(name, ()):
            return False
        file = self._folder / name
        replace_durably(file, file.with_name(f".{file.name}.draft"), content)
        return True

    def _find_problem(self, name: str, size: int) -> str:
        written = self._known.get(name)
        if written is None:
            return _find_form_problem(self._folder / name)
        if size not in {each.size for each in written}:
            return f"has {size} bytes in place of {written[-1].size}"
        if _compute(self._folder / name) not in written:
            return "does not have the bytes that were written"
        return ""

    def _read_log(self) -> None:
        """Read the entries that were added to the log since the last time; damaged ones are ignored."""
        try:
            with (self._folder / CHECKSUMS).open("rb") as log:
                status = os.fstat(log.fileno())
                first = log.readline()  # a new file can get the number of a deleted one
                if status.st_size < self._read or (status.st_ino, first) != self._log_file:  # a restored table
                    self._forget()
                self._log_file = status.st_ino, first
                log.seek(self._read)
                content = log.read()
        except FileNotFoundError:
            self._forget()
            return
        complete = content.rpartition(b"\n")[0]
        self._read += len(complete) + 1 if complete else 0
        for name, found in filter(None, map(_parse, complete.split(b"\n"))):
            self._known[name] = (*self._known.get(name, ()), found)
            if entry := _ENTRY.fullmatch(name):
                self._newest_entry = max(self._newest_entry, int(entry[1]))

    def _forget(self) -> None:
        self._read, self._known, self._newest_entry = 0, {}, -1

    def _report(self, name: str, state: DamageState, problem: str) -> Damage:
        where = f"{self._folder.name}/{name}"
        return Damage(store="tables", name=where, state=state, problem=f"file {where} {problem}", cure=CURE)


def _name_entry(version: int) -> str:
    return f"{_LOG}/{version:020}.json"


def _compute(file: Path) -> FileSum:
    size = checksum = 0
    with file.open("rb") as content:
        while chunk := content.read(_CHUNK):
            size, checksum = size + len(chunk), zlib.crc32(chunk, checksum)
    return FileSum(size, checksum)


def _find_form_problem(file: Path) -> str:
    try:
        pl.read_parquet_schema(file)
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException) as error:
        return f"is no Parquet file: {str(error).splitlines()[0]}"
    return ""


def _format(name: str, found: FileSum) -> bytes:
    line = f"{found.size} {found.checksum:08x} {name}"
    return f"{zlib.crc32(line.encode()):08x} {line}\n".encode()


def _parse(entry: bytes) -> tuple[str, FileSum] | None:
    guard, _, line = entry.partition(b" ")
    if guard != f"{zlib.crc32(line):08x}".encode():
        return None
    size, checksum, name = line.decode().split(" ", 2)
    return name, FileSum(int(size), int(checksum, 16))
