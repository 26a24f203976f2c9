"""Blobs: bytes by the SHA-256 of their content, written once, on disk or in any object store."""

import hashlib
from pathlib import Path
from typing import Protocol

from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError
from obstore.store import LocalStore, from_url

from tidemill.errors import Corrupt, NotFound, TidemillError


class Blobs(Protocol):
    """Bytes by digest; a blob is there whole or not at all, and never changes."""

    def put(self, content: bytes) -> str: ...

    def get(self, digest: str) -> bytes: ...

    def has(self, digest: str) -> bool: ...

    def delete(self, digest: str) -> None: ...


def digest_of(content: bytes) -> str:
    """The name of these bytes."""
    return hashlib.sha256(content).hexdigest()


class ObjectBlobs:
    """Blobs behind a URL that obstore knows: a folder, s3://, gs://, az://."""

    def __init__(self, url: str) -> None:
        try:
            if "://" in url:
                self._store = from_url(url)
            else:
                Path(url).mkdir(parents=True, exist_ok=True)
                self._store = LocalStore(url)
        except (OSError, BaseError) as refused:
            raise TidemillError(
                f"the blobs at {url} cannot be opened: {refused}", "check the path and its permissions"
            ) from None
        self._url = url

    def put(self, content: bytes) -> str:
        """Write bytes, unless they are there; their digest."""
        digest = digest_of(content)
        try:
            self._store.put(_place(digest), content, mode="create")
        except AlreadyExistsError:
            pass
        except (OSError, BaseError) as refused:
            raise TidemillError(
                f"a blob of {len(content)} bytes could not be written to {self._url}: {refused}",
                "free some space or check permissions, then run again: what was done is kept, nothing is half-written",
            ) from None
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of that digest.

        Raises
        ------
        NotFound
            if they are not there.
        Corrupt
            if what is there has another digest.
        TidemillError
            if nobody can tell: the store does not answer, or refuses.
        """
        try:
            content = self._store.get(_place(digest)).bytes().to_bytes()
        except (FileNotFoundError, NotFoundError):
            raise NotFound(
                f"blob {digest[:12]} is not in {self._url}", "run the pipeline again, or restore a backup"
            ) from None
        except (OSError, BaseError) as refused:
            raise self._refused(digest, refused) from None
        if digest_of(content) != digest:
            raise Corrupt(
                f"blob {digest[:12]} in {self._url} was altered",
                "delete it and run the pipeline again, or restore a backup",
            )
        return content

    def has(self, digest: str) -> bool:
        """Whether the bytes are there."""
        try:
            self._store.head(_place(digest))
        except (FileNotFoundError, NotFoundError):
            return False
        except (OSError, BaseError) as refused:
            raise self._refused(digest, refused) from None
        return True

    def delete(self, digest: str) -> None:
        """Forget the bytes of that digest, if they are there."""
        try:
            self._store.delete(_place(digest))
        except (FileNotFoundError, NotFoundError):
            return
        except (OSError, BaseError) as refused:
            raise self._refused(digest, refused) from None

    def _refused(self, digest: str, refused: Exception) -> TidemillError:
        return TidemillError(
            f"blob {digest[:12]} in {self._url} cannot be reached: {refused}",
            "check that the store is there and that you may use it",
        )


def _place(digest: str) -> str:
    return f"{digest[:2]}/{digest}"
