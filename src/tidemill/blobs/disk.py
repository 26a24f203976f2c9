"""Blobs in a folder: a draft is written to a separate folder and moved under its digest in one step."""

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
    check_digest,
    compute_digest,
    compute_file_digest,
    create_altered_error,
    create_missing_error,
    create_unreachable_error,
    create_write_error,
)
from tidemill.errors import TidemillError
from tidemill.faults import maybe_crash
from tidemill.presence import StoreFolder, open_private

_SHARD = re.compile(r"[0-9a-f]{2}")


class DiskBlobs:
    """Blobs as files in a folder, which any number of processes may share.

    A process that dies leaves at most drafts, which `delete_drafts` deletes. A power failure may truncate a blob in its
    first seconds if it was not put `durable`: reading it then raises `Corrupt`, and putting it again repairs it.
    """

    def __init__(self, folder: str | Path) -> None:
        self._folder = str(folder)
        self._drafts = f"{self._folder}/drafts"
        self._store = StoreFolder(Path(folder), "the blobs")
        existing = next(path for path in (Path(folder), *Path(folder).absolute().parents) if path.exists())
        if not existing.is_dir():
            raise TidemillError(
                f"the blobs at {folder} cannot be opened: {existing} is not a folder",
                "check the path and its permissions",
            )

    def put(self, content: bytes, *, durable: bool = False) -> str:
        """Write bytes unless they exist, and return their digest."""
        digest = compute_digest(content)
        try:
            self._put(digest, content, durable)
        except OSError as error:
            raise self._create_write_error(len(content), error) from error
        return digest

    def draft(self) -> Draft:
        """Return a sink for bytes that arrive in chunks."""
        return Draft(self._spill, self._move_draft, self._create_write_error)

    def get(self, digest: str) -> bytes:
        """Return the bytes of a digest, in memory."""
        with self._open(digest) as source:
            content = source.read()
        if compute_digest(content) != digest:
            raise create_altered_error(digest, self._folder)
        return content

    def open(self, digest: str) -> BinaryIO:
        """Return the bytes of a digest as a file, after reading it once to verify the digest."""
        source = self._open(digest)
        try:
            if compute_file_digest(source) != digest:
                raise create_altered_error(digest, self._folder)
            source.seek(0)
        except BaseException as error:
            source.close()
            if isinstance(error, OSError):
                raise create_unreachable_error(digest, self._folder, error) from error
            raise
        return source

    def has(self, digest: str) -> bool:
        """Return whether a blob with a digest exists; its bytes are not verified."""
        try:
            os.stat(self._path(digest))  # noqa: PTH116 - creating a Path is slower than the call
        except FileNotFoundError:
            self._store.require()
            return False
        except OSError as error:
            raise create_unreachable_error(digest, self._folder, error) from error
        return True

    def delete(self, digest: str) -> None:
        """Delete the bytes of a digest, if they exist."""
        self._store.require()
        try:
            Path(self._path(digest)).unlink(missing_ok=True)
        except OSError as error:
            raise create_unreachable_error(digest, self._folder, error) from error

    def list_blobs(self) -> Iterator[StoredBlob]:
        """Yield every blob, in no order."""
        self._store.require()
        now = time.time()
        for shard in _list_entries(self._folder):
            if _SHARD.fullmatch(shard.name):
                for file in _list_entries(shard.path):
                    with contextlib.suppress(FileNotFoundError):
                        status = file.stat()
                        yield StoredBlob(file.name, status.st_size, max(0.0, now - status.st_mtime))

    def delete_drafts(self, older_than: float) -> int:
        """Delete the drafts without a write for this many seconds, and return their number."""
        self._store.require()
        now = time.time()
        deleted = 0
        for file in _list_entries(self._drafts):
            with contextlib.suppress(FileNotFoundError):
                if now - file.stat().st_mtime >= older_than:
                    Path(file.path).unlink()
                    deleted += 1
        return deleted

    def _put(self, digest: str, content: bytes, durable: bool) -> None:
        path = self._path(digest)
        if len(content) <= SMALL and _refresh(path, content):
            if durable:
                self._flush(path, with_content=True)
            return
        with self._spill() as file:
            file.write(content)
            file.flush()
            self._move(file, path, durable)

    def _move_draft(self, draft: Draft, durable: bool) -> None:
        if draft.file is None:
            self._put(draft.digest, draft.content, durable)
        else:
            # A large blob that exists is replaced: the content is written already, and an altered blob is repaired.
            self._move(draft.file, self._path(draft.digest), durable)

    def _spill(self) -> BinaryIO:
        draft = f"{self._drafts}/{secrets.token_hex(12)}"
        try:
            return io.BufferedWriter(_DraftFile(draft, "xb", opener=open_private))
        except FileNotFoundError:
            self._store.make("drafts")
        return io.BufferedWriter(_DraftFile(draft, "xb", opener=open_private))

    def _move(self, file: BinaryIO, path: str, durable: bool) -> None:
        if durable:
            os.fsync(file.fileno())
        maybe_crash("blob is drafted")
        try:
            os.rename(file.name, path)  # noqa: PTH104 - as above
        except FileNotFoundError:
            self._store.make(Path(path).parent.name)
            Path(file.name).rename(path)
        maybe_crash("blob is stored")
        if durable:
            self._flush(path, with_content=False)

    def _flush(self, path: str, *, with_content: bool) -> None:
        """Flush a blob's name, its parent folders and, if requested, its bytes to the disk."""
        for name in (*((path,) if with_content else ()), str(Path(path).parent), self._folder):
            descriptor = os.open(name, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _open(self, digest: str) -> BinaryIO:
        try:
            return Path(self._path(digest)).open("rb")
        except FileNotFoundError:
            self._store.require()
            raise create_missing_error(digest, self._folder) from None
        except OSError as error:
            raise create_unreachable_error(digest, self._folder, error) from error

    def _path(self, digest: str) -> str:
        return f"{self._folder}/{digest[:2]}/{check_digest(digest)}"

    def _create_write_error(self, size: int, error: Exception) -> TidemillError:
        return create_write_error(size, self._folder, error)


class _DraftFile(io.FileIO):
    """A file that is deleted when it is closed, unless it was moved before."""

    def close(self) -> None:
        if not self.closed:
            super().close()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.name)  # noqa: PTH108 - as above


def _refresh(path: str, content: bytes) -> bool:
    """Return whether a file contains exactly these bytes; if so, reset its age, so that gc does not delete it now."""
    try:
        with io.FileIO(path) as file:
            if os.fstat(file.fileno()).st_size != len(content) or file.readall() != content:
                return False
        os.utime(path)
    except OSError:
        # A file that cannot be read or refreshed is written again.
        return False
    return True


def _list_entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []
