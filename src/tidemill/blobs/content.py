"""Content addressing: the digest of bytes, and drafts, which are bytes whose digest is not known yet."""

import contextlib
import hashlib
import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO, Self, cast

from msgspec import Struct

from tidemill.errors import Corrupt, NotFound, TidemillError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# Smaller blobs stay in memory, and go to an object store in one request.
SMALL = 1 << 20

_DIGEST = re.compile(r"[0-9a-f]{64}")


class StoredBlob(Struct, frozen=True):
    """A blob in a store: `size` in bytes, `age` in seconds since it was last put."""

    digest: str
    size: int
    age: float


class Draft(io.RawIOBase):
    """A sink for the bytes of a new blob; it computes the digest, and buffers small content in memory, large in a file.

    `keep` moves the content into the store. Without it, the content is deleted at the end of the `with` block. A store
    passes `spill`, which opens a file that is deleted when it is closed; `move`, which stores a complete draft under
    its digest; and `describe_failure`, which creates the error for a number of bytes.
    """

    def __init__(
        self,
        spill: Callable[[], BinaryIO],
        move: Callable[["Draft", bool], None],
        describe_failure: Callable[[int, Exception], TidemillError],
    ) -> None:
        self._spill = spill
        self._move = move
        self._describe_failure = describe_failure
        self._hash = hashlib.sha256()
        self._buffer = bytearray()
        self._failure: TidemillError | None = None
        self.file: BinaryIO | None = None
        self.size = 0

    @property
    def digest(self) -> str:
        """The digest of the bytes written so far."""
        return self._hash.hexdigest()

    @property
    def content(self) -> bytes:
        """The bytes written so far, as long as there is no `file`."""
        return bytes(self._buffer)

    def writable(self) -> bool:
        return True

    def write(self, content: "ReadableBuffer", /) -> int:
        """Write bytes; raise `TidemillError` if the disk is full."""
        view = memoryview(content).cast("B")
        self._hash.update(view)
        self.size += len(view)
        try:
            if self.file is None and self.size <= SMALL:
                self._buffer += view
                return len(view)
            if self.file is None:
                self.file = self._spill()
                self.file.write(self._buffer)
                self._buffer = bytearray()
            self.file.write(view)
        except OSError as error:
            self._failure = self._describe_failure(self.size, error)
            raise self._failure from error
        return len(view)

    def keep(self, *, durable: bool = False) -> str:
        """Store the content under its digest and return the digest; with `durable`, it survives a power failure.

        Raises
        ------
        TidemillError
            if the store cannot be written; then nothing is stored.
        """
        if self._failure is not None:
            raise self._failure
        try:
            if self.file is not None:
                self.file.flush()
            self._move(self, durable)
        except OSError as error:
            raise self._describe_failure(self.size, error) from error
        finally:
            self.close()
        return self.digest

    def close(self) -> None:
        if not self.closed and self.file is not None:
            # A full disk may reject the last bytes again; they are discarded anyway.
            with contextlib.suppress(OSError):
                self.file.close()
        super().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, raised: BaseException | None, trace: object) -> None:
        self.close()
        # Writers in other languages replace this error with one of their own.
        if self._failure is not None and raised is not None and raised is not self._failure:
            raise self._failure from raised


def compute_digest(content: bytes) -> str:
    """Return the digest of bytes."""
    return hashlib.sha256(content).hexdigest()


def compute_file_digest(source: BinaryIO) -> str:
    """Return the digest of a file from its current position, read in chunks."""
    return hashlib.file_digest(cast("io.BufferedReader", source), "sha256").hexdigest()


def check_digest(digest: str) -> str:
    """Return a digest; raise `NotFound` for text that is not a digest, so that no name refers outside a store."""
    if not _DIGEST.fullmatch(digest):
        raise NotFound(f"{digest[:80]!r} is not a digest", "use the 64 hexadecimal digits of a blob")
    return digest


def create_missing_error(digest: str, store: str) -> NotFound:
    return NotFound(f"blob {digest[:12]} is not in {store}", "run the pipeline again, or restore a backup")


def create_altered_error(digest: str, store: str) -> Corrupt:
    return Corrupt(
        f"blob {digest[:12]} in {store} was altered or truncated", "run the pipeline again, or restore a backup"
    )


def create_unreachable_error(digest: str, store: str, error: Exception) -> TidemillError:
    return TidemillError(
        f"blob {digest[:12]} in {store} cannot be reached: {error}",
        "check that the store exists and that you have access to it",
    )


def create_write_error(size: int, store: str, error: Exception) -> TidemillError:
    return TidemillError(
        f"a blob of {size} bytes could not be written to {store}: {error}",
        "free some space or check permissions, then run again: finished work is kept, and no blob is incomplete",
    )
