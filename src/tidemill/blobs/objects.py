"""Blobs in an object store: s3://, gs://, az:// and the other stores that obstore supports."""

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
    check_digest,
    create_altered_error,
    create_missing_error,
)
from tidemill.errors import Corrupt, NotFound, TidemillError, Transient

if TYPE_CHECKING:
    from obstore import Bytes, GetResult
    from obstore.store import RetryConfig

_CHUNK = 8 * SMALL
_MISSING = (FileNotFoundError, NotFoundError)
_FAILURES = (OSError, BaseError)
# An older blob is put again, since a collection may be about to delete it.
_FRESH = timedelta(hours=1)
_RETRIES: "RetryConfig" = {"max_retries": 3, "retry_timeout": timedelta(seconds=20)}


class ObjectBlobs:
    """Blobs at a URL; a large one is uploaded in parts from a local file, and exists once all parts are uploaded."""

    def __init__(self, url: str) -> None:
        self._url = url
        try:
            self._store: ObjectStore = from_url(url, retry_config=_RETRIES)
        except _FAILURES as error:
            raise _create_error(f"the blobs at {url} cannot be opened", error) from None

    def put(self, content: bytes, *, durable: bool = False) -> str:
        """Write bytes unless they exist, and return their digest."""
        with self.draft() as draft:
            draft.write(content)
            return draft.keep(durable=durable)

    def draft(self) -> Draft:
        """Return a sink for bytes that arrive in chunks."""
        return Draft(tempfile.TemporaryFile, self._upload, self._create_write_error)

    def get(self, digest: str) -> bytes:
        """Return the bytes of a digest, in memory."""
        with self.open(digest) as source:
            return source.read()

    def open(self, digest: str) -> BinaryIO:
        """Return the bytes of a digest as a local file, after verifying the digest."""
        path = _path(digest)
        try:
            response = self._store.get(path)
            source: BinaryIO = io.BytesIO() if response.meta["size"] <= SMALL else tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
            try:
                received = hashlib.sha256()
                for chunk in self._read_chunks(path, response):
                    received.update(chunk)
                    source.write(chunk)
                if received.hexdigest() != digest:
                    raise create_altered_error(digest, self._url)
                source.seek(0)
            except BaseException:
                source.close()
                raise
        except _MISSING:
            raise create_missing_error(digest, self._url) from None
        except _FAILURES as error:
            raise self._create_unreachable_error(digest, error) from error
        return source

    def has(self, digest: str) -> bool:
        """Return whether a blob with a digest exists; its bytes are not verified."""
        path = _path(digest)
        try:
            self._store.head(path)
        except _MISSING:
            return False
        except _FAILURES as error:
            raise self._create_unreachable_error(digest, error) from error
        return True

    def delete(self, digest: str) -> None:
        """Delete the bytes of a digest, if they exist."""
        path = _path(digest)
        try:
            self._store.delete(path)
        except _MISSING:
            return
        except _FAILURES as error:
            raise self._create_unreachable_error(digest, error) from error

    def list_blobs(self) -> Iterator[StoredBlob]:
        """Yield every blob, in no order."""
        now = datetime.now(UTC)
        try:
            for page in self._store.list():
                for item in page:
                    digest = item["path"].rpartition("/")[2]
                    if item["path"] == f"{digest[:2]}/{digest}":
                        age = (now - item["last_modified"]).total_seconds()
                        yield StoredBlob(digest, item["size"], max(0.0, age))
        except _FAILURES as error:
            raise _create_error(f"the blobs in {self._url} cannot be listed", error) from error

    def delete_drafts(self, older_than: float) -> int:  # noqa: ARG002 - required by the protocol
        """Delete nothing: drafts are unnamed local files. Configure the bucket to abort incomplete uploads."""
        return 0

    def _read_chunks(self, path: str, response: "GetResult") -> "Iterator[Bytes]":
        """Yield the content of a response; a large one with several requests, each with the retries of the client."""
        size = response.meta["size"]
        if size <= _CHUNK:
            yield response.bytes()
        else:
            for start in range(0, size, _CHUNK):
                yield self._store.get_range(path, start=start, end=min(size, start + _CHUNK))

    def _upload(self, draft: Draft, durable: bool) -> None:  # noqa: ARG002 - an acknowledged object is durable
        path = _path(draft.digest)
        try:
            if draft.file is not None:
                if not self._is_fresh(path, draft):
                    draft.file.seek(0)
                    self._store.put(path, draft.file, use_multipart=True)
                return
            try:
                self._store.put(path, draft.content, mode="create")
            except AlreadyExistsError:
                if not self._is_fresh(path, draft):
                    self._store.put(path, draft.content)
        except BaseError as error:
            raise self._create_write_error(draft.size, error) from error

    def _is_fresh(self, path: str, draft: Draft) -> bool:
        """Return whether exactly these bytes were put recently."""
        try:
            status = self._store.head(path)
            if status["size"] != draft.size or datetime.now(UTC) - status["last_modified"] > _FRESH:
                return False
            self.open(draft.digest).close()
        except (NotFound, Corrupt, *_MISSING):
            return False
        return True

    def _create_write_error(self, size: int, error: Exception) -> TidemillError:
        return _create_error(f"a blob of {size} bytes could not be written to {self._url}", error)

    def _create_unreachable_error(self, digest: str, error: Exception) -> TidemillError:
        return _create_error(f"blob {digest[:12]} in {self._url} cannot be reached", error)


def _path(digest: str) -> str:
    return f"{digest[:2]}/{check_digest(digest)}"


def _create_error(problem: str, error: Exception) -> TidemillError:
    """Create the error for a failure of an object store or of the disk of a draft, on one line and with its cure."""
    text = f"{problem}: {str(error).partition(chr(10))[0].strip()}"
    if isinstance(error, NotSupportedError) or "NotImplemented" in str(error):
        return TidemillError(
            text, "use a store that can create an object only if it is absent, such as S3, GCS, Azure, MinIO or R2"
        )
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return TidemillError(text, "check the credentials and their permissions to read, write, list and delete")
    if isinstance(error, GenericError) and "HTTP error" in text:
        return Transient(text, "check that the store is up and can be reached from this machine, then run again")
    if isinstance(error, OSError):
        return TidemillError(text, f"free some space in {tempfile.gettempdir()}, or set TMPDIR to another folder")
    return TidemillError(text, "check the URL, that the store exists, and that you have access to it")
