"""Blobs in an object store: s3://, gs://, az:// and whatever else obstore knows."""

import hashlib
import io
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, BinaryIO

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    GenericError,
    NotFoundError,
    NotSupportedError,
    PermissionDeniedError,
    UnauthenticatedError,
)
from obstore.store import ObjectStore, from_url

from tidemill.blobs.content import (
    SMALL,
    Draft,
    StoredBlob,
    altered,
    check_digest,
    missing,
)
from tidemill.errors import Corrupt, NotFound, TidemillError, Transient

if TYPE_CHECKING:
    from obstore import Bytes, GetResult
    from obstore.store import RetryConfig

_PIECE = 8 * SMALL
_GONE = (FileNotFoundError, NotFoundError)
_REFUSALS = (OSError, BaseError)
# A blob that was put longer ago is put again, not only found: a collection may be about to take it.
_YOUNG = timedelta(hours=1)
_PATIENCE: "RetryConfig" = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}


class ObjectBlobs:
    """Blobs behind a URL; a large one goes up in parts, from a file of this machine, and is there when all are."""

    def __init__(self, url: str) -> None:
        self._url = url
        try:
            self._store: ObjectStore = from_url(url, retry_config=_PATIENCE)
        except _REFUSALS as refused:
            raise _worded(f"the blobs at {url} cannot be opened", refused) from None

    def put(self, content: bytes, *, durable: bool = False) -> str:
        """Write bytes, unless they are there; their digest."""
        with self.draft() as draft:
            draft.write(content)
            return draft.keep(durable=durable)

    def draft(self) -> Draft:
        """A sink for bytes that come in pieces."""
        return Draft(tempfile.TemporaryFile, self._place, self._unwritten)

    def get(self, digest: str) -> bytes:
        """The bytes of that digest, whole in memory."""
        with self.open(digest) as source:
            return source.read()

    def open(self, digest: str) -> BinaryIO:
        """The bytes of that digest as a file of this machine: it holds those and no others."""
        path = _path(digest)
        try:
            found = self._store.get(path)
            source: BinaryIO = io.BytesIO() if found.meta["size"] <= SMALL else tempfile.TemporaryFile()  # noqa: SIM115 - given away
            try:
                came = hashlib.sha256()
                for piece in self._pieces(path, found):
                    came.update(piece)
                    source.write(piece)
                if came.hexdigest() != digest:
                    raise altered(digest, self._url)
                source.seek(0)
            except BaseException:
                source.close()
                raise
        except _GONE:
            raise missing(digest, self._url) from None
        except _REFUSALS as refused:
            raise self._unreachable(digest, refused) from refused
        return source

    def has(self, digest: str) -> bool:
        """Whether there is a blob of that digest, be its bytes right or wrong."""
        path = _path(digest)
        try:
            self._store.head(path)
        except _GONE:
            return False
        except _REFUSALS as refused:
            raise self._unreachable(digest, refused) from refused
        return True

    def delete(self, digest: str) -> None:
        """Forget the bytes of that digest, if they are there."""
        path = _path(digest)
        try:
            self._store.delete(path)
        except _GONE:
            return
        except _REFUSALS as refused:
            raise self._unreachable(digest, refused) from refused

    def list_blobs(self) -> Iterator[StoredBlob]:
        """Every blob that is there, in no order."""
        now = datetime.now(UTC)
        try:
            for page in self._store.list():
                for found in page:
                    digest = found["path"].rpartition("/")[2]
                    if found["path"] == f"{digest[:2]}/{digest}":
                        age = (now - found["last_modified"]).total_seconds()
                        yield StoredBlob(digest, found["size"], max(0.0, age))
        except _REFUSALS as refused:
            raise _worded(f"the blobs in {self._url} cannot be listed", refused) from refused

    def delete_drafts(self, older_than: float) -> int:  # noqa: ARG002 - the protocol's
        """Nothing: drafts are nameless files of this machine; let the bucket's own rule end uploads that broke off."""
        return 0

    def _pieces(self, path: str, found: "GetResult") -> "Iterator[Bytes]":
        """What was found: a large one by several requests, each of which has the client's patience."""
        size = found.meta["size"]
        if size <= _PIECE:
            yield found.bytes()
        else:
            for start in range(0, size, _PIECE):
                yield self._store.get_range(path, start=start, end=min(size, start + _PIECE))

    def _place(self, draft: Draft, durable: bool) -> None:  # noqa: ARG002 - what it acknowledged, it keeps
        path = _path(draft.digest)
        try:
            if draft.file is not None:
                if not self._holds(path, draft):
                    draft.file.seek(0)
                    self._store.put(path, draft.file, use_multipart=True)
                return
            try:
                self._store.put(path, draft.content, mode="create")
            except AlreadyExistsError:
                if not self._holds(path, draft):
                    self._store.put(path, draft.content)
        except BaseError as refused:
            raise self._unwritten(draft.size, refused) from refused

    def _holds(self, path: str, draft: Draft) -> bool:
        """Whether these very bytes were put there not long ago."""
        try:
            told = self._store.head(path)
            if told["size"] != draft.size or datetime.now(UTC) - told["last_modified"] > _YOUNG:
                return False
            self.open(draft.digest).close()
        except (NotFound, Corrupt, *_GONE):
            return False
        return True

    def _unwritten(self, size: int, refused: Exception) -> TidemillError:
        return _worded(f"a blob of {size} bytes could not be written to {self._url}", refused)

    def _unreachable(self, digest: str, refused: Exception) -> TidemillError:
        return _worded(f"blob {digest[:12]} in {self._url} cannot be reached", refused)


def _path(digest: str) -> str:
    return f"{digest[:2]}/{check_digest(digest)}"


def _worded(problem: str, refused: Exception) -> TidemillError:
    """The error for what an object store or the disk under a draft said, on one line and with its cure."""
    said = f"{problem}: {str(refused).partition(chr(10))[0].strip()}"
    if isinstance(refused, NotSupportedError) or "NotImplemented" in str(refused):
        return TidemillError(
            said, "give a store that can create an object only if it is absent: S3, GCS, Azure, MinIO, R2 can"
        )
    if isinstance(refused, PermissionDeniedError | UnauthenticatedError):
        return TidemillError(said, "check the credentials, and that they may read, write, list and delete there")
    if isinstance(refused, GenericError) and "HTTP error" in said:
        return Transient(said, "check that the store is up and can be reached from here, then run again")
    if isinstance(refused, OSError):
        return TidemillError(said, f"free some space in {tempfile.gettempdir()}, or set TMPDIR to another folder")
    return TidemillError(said, "check the URL, that the store is there, and that you may use it")
