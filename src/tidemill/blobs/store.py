"""Blobs: bytes by the SHA-256 of their content, written once, in memory, on disk or in an object store."""

import io
import time
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from tidemill.blobs.content import (
    Draft,
    StoredBlob,
    check_digest,
    compute_digest,
    create_altered_error,
    create_missing_error,
    create_write_error,
)
from tidemill.blobs.disk import DiskBlobs

__all__ = ["Blobs", "DiskBlobs", "Draft", "MemoryBlobs", "StoredBlob", "compute_digest", "open_blobs"]


class Blobs(Protocol):
    """Bytes by digest: a blob exists completely or not at all, and reading it verifies its digest.

    Putting an existing blob writes nothing, but resets its age; an altered blob is repaired. Threads and processes may
    share a store. Errors: `NotFound` for a missing blob, `Corrupt` for an altered one, `Transient` for a store that
    does not respond, and `TidemillError` for any other failure.
    """

    def put(self, content: bytes, *, durable: bool = False) -> str:
        """Write bytes unless they exist, and return their digest; with `durable`, they survive a power failure."""
        ...

    def draft(self) -> Draft:
        """Return a sink for bytes that arrive in chunks; its `keep` returns the digest."""
        ...

    def get(self, digest: str) -> bytes:
        """Return the bytes of a digest, in memory."""
        ...

    def open(self, digest: str) -> BinaryIO:
        """Return the bytes of a digest as a seekable file, after verifying the digest."""
        ...

    def has(self, digest: str) -> bool:
        """Return whether a blob with a digest exists; its bytes are not verified."""
        ...

    def delete(self, digest: str) -> None:
        """Delete the bytes of a digest, if they exist."""
        ...

    def list_blobs(self) -> Iterator[StoredBlob]:
        """Yield every blob, in no order; other processes may put and delete blobs meanwhile."""
        ...

    def delete_drafts(self, older_than: float) -> int:
        """Delete the drafts that dead writers left more than this many seconds ago, and return their number."""
        ...


class MemoryBlobs:
    """Blobs in memory, for tests and temporary data; stores with the same `shared` have the same blobs."""

    def __init__(self, shared: dict[str, tuple[bytes, float]] | None = None) -> None:
        self._blobs = {} if shared is None else shared

    def put(self, content: bytes, *, durable: bool = False) -> str:  # noqa: ARG002 - required by the protocol
        digest = compute_digest(content)
        self._blobs[digest] = (content, time.monotonic())
        return digest

    def draft(self) -> Draft:
        return Draft(io.BytesIO, self._put_draft, lambda size, error: create_write_error(size, "memory", error))

    def get(self, digest: str) -> bytes:
        entry = self._blobs.get(check_digest(digest))
        if entry is None:
            raise create_missing_error(digest, "memory")
        if compute_digest(entry[0]) != digest:
            raise create_altered_error(digest, "memory")
        return entry[0]

    def open(self, digest: str) -> BinaryIO:
        return io.BytesIO(self.get(digest))

    def has(self, digest: str) -> bool:
        return check_digest(digest) in self._blobs

    def delete(self, digest: str) -> None:
        self._blobs.pop(check_digest(digest), None)

    def list_blobs(self) -> Iterator[StoredBlob]:
        now = time.monotonic()
        for digest, (content, put) in self._blobs.copy().items():
            yield StoredBlob(digest, len(content), now - put)

    def delete_drafts(self, older_than: float) -> int:  # noqa: ARG002 - memory has no drafts of dead writers
        return 0

    def _put_draft(self, draft: Draft, durable: bool) -> None:
        if isinstance(draft.file, io.BytesIO):
            self.put(draft.file.getvalue(), durable=durable)
        else:
            self.put(draft.content, durable=durable)


def open_blobs(url: str) -> Blobs:
    """Return the blobs of a folder, or of a URL that obstore supports: s3://, gs://, az://.

    Raises
    ------
    TidemillError
        if the store does not exist or cannot be used.
    """
    if "://" not in url:
        return DiskBlobs(url)
    if url.startswith("file:///"):
        return DiskBlobs(url.removeprefix("file://"))
    # Imported here, since the client is a large library, which a local folder does not need.
    from tidemill.blobs.objects import ObjectBlobs

    return ObjectBlobs(url)
