"""Content-addressing: the digest that names bytes, and the draft that bytes are until their digest is known."""

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

# What is smaller stays in memory, and goes to an object store in one request.
SMALL = 1 << 20

_DIGEST = re.compile(r"[0-9a-f]{64}")


class StoredBlob(Struct, frozen=True):
    """A blob that is there: `size` in bytes, `age` in seconds since it was last put."""

    digest: str
    size: int
    age: float


class Draft(io.RawIOBase):
    """Bytes on their way into a store: hashed as they come, small ones in memory, large ones in a file.

    Any writer can write to it; `keep` places what it wrote. What is not kept is gone when the block is left that
    the draft is the context of. A store gives `spill`, which opens a file that goes when it is closed; `place`, which
    moves a whole draft under its digest; and `refused`, which words the error for so many bytes.
    """

    def __init__(
        self,
        spill: Callable[[], BinaryIO],
        place: Callable[["Draft", bool], None],
        refused: Callable[[int, Exception], TidemillError],
    ) -> None:
        self._spill = spill
        self._place = place
        self._refused = refused
        self._hash = hashlib.sha256()
        self._small = bytearray()
        self._failure: TidemillError | None = None
        self.file: BinaryIO | None = None
        self.size = 0

    @property
    def digest(self) -> str:
        """The name of what was written until now."""
        return self._hash.hexdigest()

    @property
    def content(self) -> bytes:
        """What was written until now, as long as there is no `file`."""
        return bytes(self._small)

    def writable(self) -> bool:
        return True

    def write(self, content: "ReadableBuffer", /) -> int:
        """Take some bytes; raises `TidemillError` where there is no room for them."""
        view = memoryview(content).cast("B")
        self._hash.update(view)
        self.size += len(view)
        try:
            if self.file is None and self.size <= SMALL:
                self._small += view
                return len(view)
            if self.file is None:
                self.file = self._spill()
                self.file.write(self._small)
                self._small = bytearray()
            self.file.write(view)
        except OSError as full:
            self._failure = self._refused(self.size, full)
            raise self._failure from full
        return len(view)

    def keep(self, *, durable: bool = False) -> str:
        """Place what was written under its digest, and give that; `durable` survives a loss of power.

        Raises
        ------
        TidemillError
            where the store cannot be written; then nothing is there.
        """
        if self._failure is not None:
            raise self._failure
        try:
            if self.file is not None:
                self.file.flush()
            self._place(self, durable)
        except OSError as full:
            raise self._refused(self.size, full) from full
        finally:
            self.close()
        return self.digest

    def close(self) -> None:
        if not self.closed and self.file is not None:
            # A full disk may refuse the last bytes once more: they are given up anyway.
            with contextlib.suppress(OSError):
                self.file.close()
        super().close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, raised: BaseException | None, trace: object) -> None:
        self.close()
        # Writers in other languages raise an error of their own for ours.
        if self._failure is not None and raised is not None and raised is not self._failure:
            raise self._failure from raised


def compute_digest(content: bytes) -> str:
    """The name of these bytes."""
    return hashlib.sha256(content).hexdigest()


def compute_file_digest(source: BinaryIO) -> str:
    """The name of what a file holds from where it stands, read in pieces."""
    return hashlib.file_digest(cast("io.BufferedReader", source), "sha256").hexdigest()


def check_digest(digest: str) -> str:
    """A digest as it is; raises `NotFound` for what can name no blob, so that no name leads out of a store."""
    if not _DIGEST.fullmatch(digest):
        raise NotFound(f"{digest[:80]!r} is no digest", "give the 64 hexadecimal digits of a blob")
    return digest


def missing(digest: str, store: str) -> NotFound:
    return NotFound(f"blob {digest[:12]} is not in {store}", "run the pipeline again, or restore a backup")


def altered(digest: str, store: str) -> Corrupt:
    return Corrupt(
        f"blob {digest[:12]} in {store} was altered or cut short", "run the pipeline again, or restore a backup"
    )


def unreachable(digest: str, store: str, refused: Exception) -> TidemillError:
    return TidemillError(
        f"blob {digest[:12]} in {store} cannot be reached: {refused}",
        "check that the store is there and that you may use it",
    )


def unwritten(size: int, store: str, refused: Exception) -> TidemillError:
    return TidemillError(
        f"a blob of {size} bytes could not be written to {store}: {refused}",
        "free some space or check permissions, then run again: what was done is kept, nothing is half-written",
    )
