"""Blobs in memory, on disk and in S3 pass the blobs suite."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from obstore.store import from_url

from tidemill.blobs.store import Blobs, DiskBlobs, MemoryBlobs, open_blobs
from tidemill.testing.blobs import Alter, BlobsSuite


class TestInMemory(BlobsSuite):
    @pytest.fixture
    def shared(self) -> dict[str, tuple[bytes, float]]:
        return {}

    @pytest.fixture
    def opener(self, shared: dict[str, tuple[bytes, float]]) -> Callable[[], Blobs]:
        return partial(MemoryBlobs, shared)

    @pytest.fixture
    def alter(self, shared: dict[str, tuple[bytes, float]]) -> Alter:
        def write(digest: str, content: bytes) -> None:
            shared[digest] = (content, 0.0)

        return write


class TestOnDisk(BlobsSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Callable[[], Blobs]:
        return partial(DiskBlobs, tmp_path / "blobs")

    @pytest.fixture
    def alter(self, tmp_path: Path) -> Alter:
        def write(digest: str, content: bytes) -> None:
            (file,) = tmp_path.rglob(digest)
            file.write_bytes(content)

        return write


class TestOnS3(BlobsSuite):
    @pytest.fixture
    def opener(self, s3_url: str) -> Callable[[], Blobs]:
        return partial(open_blobs, f"{s3_url}/project/blobs")

    @pytest.fixture
    def alter(self, s3_url: str) -> Alter:
        def write(digest: str, content: bytes) -> None:
            store = from_url(s3_url)
            (path,) = [found["path"] for page in store.list() for found in page if found["path"].endswith(f"/{digest}")]
            store.put(path, content)

        return write
