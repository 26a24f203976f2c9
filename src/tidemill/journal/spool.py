"""A spool: a file of rows that a service has answered for and that are in no segment yet (`durability = "group"`).

The service appends a record for each group of requests, before it replies, and turns the spool into a segment a little
later. The file is locked as long as its writer lives. After a kill, whoever opens the journal next takes the rows up:
the segment gets the id of the spool, so that a kill between the two neither loses nor duplicates a row.
"""

import fcntl
import hashlib
import io
import os
import struct
import uuid
import zlib
from contextlib import suppress
from pathlib import Path

import polars as pl

from tidemill.durable import flush_folder, write_all
from tidemill.faults import maybe_crash

ENDING = ".spool"
_HEADER = struct.Struct("<4sQ16sI")  # mark, length of the rows, their checksum, checksum of the header
_MARK = b"TMSP"


class Spool:
    """The open spool of one kind; `append` returns when the rows are on the disk."""

    def __init__(self, folder: Path, kind: str, *, durable: bool) -> None:
        self.kind = kind
        self.identifier = uuid.uuid4().hex[:12]
        self._durable = durable
        folder.mkdir(parents=True, exist_ok=True)
        self.file = folder / f".{self.identifier}{ENDING}"
        # It is locked before it has its name, so that nobody takes it for the file of a killed writer.
        draft = folder / f".{self.identifier}.{os.getpid()}"
        self._descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        draft.rename(self.file)
        if durable:
            flush_folder(folder)
        self._size = 0

    def append(self, frame: pl.DataFrame) -> None:
        """Add rows; raise `OSError` if the disk refuses them: then none of them is in the file."""
        payload = serialize(frame)
        checksum = _checksum(self.kind, self.identifier, self._size, payload)
        header = _HEADER.pack(_MARK, len(payload), checksum, _check_header(len(payload), checksum))
        try:
            write_all(self._descriptor, header + bytes(payload))
            if self._durable:
                os.fdatasync(self._descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
                os.lseek(self._descriptor, self._size, os.SEEK_SET)
            raise
        self._size += len(header) + len(payload)
        maybe_crash("rows are spooled")

    def delete(self) -> None:
        """Delete the file: its rows are in a segment."""
        self.file.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Close the file; its rows are taken up by whoever opens the journal next."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class AbandonedSpool:
    """The spool of a writer that has died, locked by this process until `close`."""

    def __init__(self, file: Path, kind: str) -> None:
        self.file = file
        self.identifier = file.name[1 : -len(ENDING)]
        self._kind = kind
        self._descriptor = -1

    def lock(self) -> bool:
        """Return whether the writer is dead and no other process takes the rows up."""
        try:
            self._descriptor = os.open(self.file, os.O_RDONLY | os.O_CLOEXEC)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(self._descriptor).st_ino == self.file.stat().st_ino:
                return True
        except OSError:
            pass
        self.close()
        return False

    def read(self) -> tuple[list[pl.DataFrame], int]:
        """Return the rows of the records that are intact, and the number of records whose bytes are damaged.

        An incomplete record at the end is not counted: its writer was killed before it replied.
        """
        content = self.file.read_bytes()
        frames, damaged, start = [], 0, 0
        while 0 <= start <= len(content) - _HEADER.size:
            mark, length, checksum, header = _HEADER.unpack_from(content, start)
            end = start + _HEADER.size + length
            is_header = mark == _MARK and header == _check_header(length, checksum)
            payload = content[start + _HEADER.size : end] if is_header else b""
            if is_header and checksum == _checksum(self._kind, self.identifier, start, payload):
                frames.append(pl.read_ipc(io.BytesIO(payload)))
                start = end
                continue
            damaged += not (is_header and end > len(content))
            start = content.find(_MARK, start + 1)
        return frames, damaged

    def close(self) -> None:
        """Release the lock."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def serialize(frame: pl.DataFrame) -> memoryview:
    """Return rows as the bytes of an Arrow file."""
    sink = io.BytesIO()
    # The newer format would also write rows that were filtered out and are still in memory.
    frame.write_ipc(sink, compression="lz4", compat_level=pl.CompatLevel.oldest())
    return sink.getbuffer()


def _check_header(length: int, checksum: bytes) -> int:
    return zlib.crc32(checksum, length & 0xFFFFFFFF)


def _checksum(kind: str, identifier: str, start: int, payload: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(f"{kind} {identifier} {start}\n".encode())
    digest.update(payload)
    return digest.digest()[:16]
