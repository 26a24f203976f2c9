"""Blobs in a folder: a draft is written beside them, and moved under its digest in one step."""

import contextlib
import io
import os
import re
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from tidemill.blobs.content import (
    SMALL,
    Draft,
    StoredBlob,
    altered,
    check_digest,
    compute_digest,
    compute_file_digest,
    missing,
    unreachable,
    unwritten,
)
from tidemill.errors import TidemillError
from tidemill.faults import reached

_SHARD = re.compile(r"[0-9a-f]{2}")


class DiskBlobs:
    """Blobs as files of a folder, which any number of processes may share.

    A process that dies leaves at most drafts, which `sweep` takes away. A blob that was not put `durable` may be cut
    short by a loss of power in its first seconds: that is found when it is read, and mended when it is put again.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = str(folder)
        self._drafts = f"{self._folder}/drafts"
        try:
            Path(self._drafts).mkdir(parents=True, exist_ok=True)
        except OSError as refused:
            # What others wrote can be read where nothing can be written.
            if not Path(self._folder).is_dir():
                raise TidemillError(
                    f"the blobs at {folder} cannot be opened: {refused}", "check the path and its permissions"
                ) from None

    def put(self, content: bytes, *, durable: bool = False) -> str:
        """Write bytes, unless they are there; their digest."""
        digest = compute_digest(content)
        try:
            self._put(digest, content, durable)
        except OSError as refused:
            raise self._unwritten(len(content), refused) from refused
        return digest

    def draft(self) -> Draft:
        """A sink for bytes that come in pieces."""
        return Draft(self._spill, self._place, self._unwritten)

    def get(self, digest: str) -> bytes:
        """The bytes of that digest, whole in memory."""
        with self._opened(digest) as source:
            content = source.read()
        if compute_digest(content) != digest:
            raise altered(digest, self._folder)
        return content

    def open(self, digest: str) -> BinaryIO:
        """The bytes of that digest as a file, which was read through once: it holds those and no others."""
        source = self._opened(digest)
        try:
            if compute_file_digest(source) != digest:
                raise altered(digest, self._folder)
            source.seek(0)
        except BaseException as wrong:
            source.close()
            if isinstance(wrong, OSError):
                raise unreachable(digest, self._folder, wrong) from wrong
            raise
        return source

    def has(self, digest: str) -> bool:
        """Whether there is a blob of that digest, be its bytes right or wrong."""
        try:
            os.stat(self._path(digest))  # noqa: PTH116 - a Path costs more than the call
        except FileNotFoundError:
            return False
        except OSError as refused:
            raise unreachable(digest, self._folder, refused) from refused
        return True

    def delete(self, digest: str) -> None:
        """Forget the bytes of that digest, if they are there."""
        try:
            Path(self._path(digest)).unlink(missing_ok=True)
        except OSError as refused:
            raise unreachable(digest, self._folder, refused) from refused

    def list_blobs(self) -> Iterator[StoredBlob]:
        """Every blob that is there, in no order."""
        now = time.time()
        for shard in _entries(self._folder):
            if _SHARD.fullmatch(shard.name):
                for file in _entries(shard.path):
                    with contextlib.suppress(FileNotFoundError):
                        told = file.stat()
                        yield StoredBlob(file.name, told.st_size, max(0.0, now - told.st_mtime))

    def delete_drafts(self, older_than: float) -> int:
        """Take away the drafts that nobody wrote to for so many seconds; how many they were."""
        now = time.time()
        swept = 0
        for file in _entries(self._drafts):
            with contextlib.suppress(FileNotFoundError):
                if now - file.stat().st_mtime >= older_than:
                    Path(file.path).unlink()
                    swept += 1
        return swept

    def _put(self, digest: str, content: bytes, durable: bool) -> None:
        path = self._path(digest)
        if len(content) <= SMALL and _renewed(path, content):
            if durable:
                self._flush(path, itself=True)
            return
        with self._spill() as file:
            file.write(content)
            file.flush()
            self._move(file, path, durable)

    def _place(self, draft: Draft, durable: bool) -> None:
        if draft.file is None:
            self._put(draft.digest, draft.content, durable)
        else:
            # A large one that is there already is replaced: that costs nothing now, and mends it if it was altered.
            self._move(draft.file, self._path(draft.digest), durable)

    def _spill(self) -> BinaryIO:
        return io.BufferedWriter(_DraftFile(f"{self._drafts}/{secrets.token_hex(12)}", "xb"))

    def _move(self, file: BinaryIO, path: str, durable: bool) -> None:
        if durable:
            os.fsync(file.fileno())
        reached("blob is drafted")
        try:
            os.rename(file.name, path)  # noqa: PTH104 - as above
        except FileNotFoundError:
            Path(path).parent.mkdir(exist_ok=True)
            Path(file.name).rename(path)
        reached("blob is placed")
        if durable:
            self._flush(path, itself=False)

    def _flush(self, path: str, *, itself: bool) -> None:
        """Bring to the platter a blob's name, the folders that lead to it and, where asked, its bytes."""
        for place in (*((path,) if itself else ()), str(Path(path).parent), self._folder):
            descriptor = os.open(place, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _opened(self, digest: str) -> BinaryIO:
        try:
            return Path(self._path(digest)).open("rb")
        except FileNotFoundError:
            raise missing(digest, self._folder) from None
        except OSError as refused:
            raise unreachable(digest, self._folder, refused) from refused

    def _path(self, digest: str) -> str:
        return f"{self._folder}/{digest[:2]}/{check_digest(digest)}"

    def _unwritten(self, size: int, refused: Exception) -> TidemillError:
        return unwritten(size, self._folder, refused)


class _DraftFile(io.FileIO):
    """A file that goes when it is closed, unless it was moved away before."""

    def close(self) -> None:
        if not self.closed:
            super().close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.name)  # noqa: PTH108 - as above


def _renewed(path: str, content: bytes) -> bool:
    """Whether the file holds these very bytes; then it is young again, so that no collection takes it now."""
    try:
        with io.FileIO(path) as file:
            if os.fstat(file.fileno()).st_size != len(content) or file.readall() != content:
                return False
        os.utime(path)
    except OSError:
        # What cannot be read or renewed is written anew.
        return False
    return True


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
