"""Blobs: bytes by the SHA-256 of their content, written once, in memory, on disk or in any object store."""

import io
import time
from collections.abc import Iterator
from typing import BinaryIO, Protocol

from tidemill.blobs.content import Draft, StoredBlob, altered, check_digest, compute_digest, missing, unwritten
from tidemill.blobs.disk import DiskBlobs

__all__ = ["Blobs", "DiskBlobs", "Draft", "MemoryBlobs", "StoredBlob", "compute_digest", "open_blobs"]


class Blobs(Protocol):
    """Bytes by digest: a blob is there whole or not at all, and no other bytes are ever taken for it.

    Putting what is there writes nothing, but makes it young again; where it was altered, it is mended. Threads and
    processes may share a store. Errors: `NotFound` for what is not there, `Corrupt` for what has another digest,
    `Transient` for a store that does not answer, any other `TidemillError` for one that refuses.
    """

    def put(self, content: bytes, *, durable: bool = False) -> str:
        """Write bytes, unless they are there; their digest. `durable` survives a loss of power."""
        ...

    def draft(self) -> Draft:
        """A sink for bytes that come in pieces; its `keep` gives the digest."""
        ...

    def get(self, digest: str) -> bytes:
        """The bytes of that digest, whole in memory."""
        ...

    def open(self, digest: str) -> BinaryIO:
        """The bytes of that digest as a file that can be sought in; they were verified before it is given."""
        ...

    def has(self, digest: str) -> bool:
        """Whether there is a blob of that digest, be its bytes right or wrong."""
        ...

    def delete(self, digest: str) -> None:
        """Forget the bytes of that digest, if they are there."""
        ...

    def list_blobs(self) -> Iterator[StoredBlob]:
        """Every blob that is there, in no order, while others put and delete."""
        ...

    def delete_drafts(self, older_than: float) -> int:
        """Take away what writers that died left behind more than so many seconds ago; how many drafts that were."""
        ...


class MemoryBlobs:
    """Blobs in memory, for tests and for what may be forgotten; `shared` lets several openings have the same."""

    def __init__(self, shared: dict[str, tuple[bytes, float]] | None = None) -> None:
        self._blobs = {} if shared is None else shared

    def put(self, content: bytes, *, durable: bool = False) -> str:  # noqa: ARG002 - the protocol's
        digest = compute_digest(content)
        self._blobs[digest] = (content, time.monotonic())
        return digest

    def draft(self) -> Draft:
        return Draft(io.BytesIO, self._place, lambda size, refused: unwritten(size, "memory", refused))

    def get(self, digest: str) -> bytes:
        held = self._blobs.get(check_digest(digest))
        if held is None:
            raise missing(digest, "memory")
        if compute_digest(held[0]) != digest:
            raise altered(digest, "memory")
        return held[0]

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

    def delete_drafts(self, older_than: float) -> int:  # noqa: ARG002 - what dies here leaves nothing
        return 0

    def _place(self, draft: Draft, durable: bool) -> None:
        if isinstance(draft.file, io.BytesIO):
            self.put(draft.file.getvalue(), durable=durable)
        else:
            self.put(draft.content, durable=durable)


def open_blobs(url: str) -> Blobs:
    """The blobs of a folder, or of a URL that obstore knows: s3://, gs://, az://.

    Raises
    ------
    TidemillError
        if there is no such store, or it cannot be used.
    """
    if "://" not in url:
        return DiskBlobs(url)
    if url.startswith("file:///"):
        return DiskBlobs(url.removeprefix("file://"))
    # Its client is a large library: who works on a disk does not wait for it.
    from tidemill.blobs.objects import ObjectBlobs

    return ObjectBlobs(url)
