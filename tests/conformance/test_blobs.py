"""Blobs on disk and behind the S3 protocol."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from obstore.store import from_url

from tidemill.store.blobs import Blobs, ObjectBlobs
from tidemill.testing.blobs import Alter, BlobsSuite


class TestOnDisk(BlobsSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Callable[[], Blobs]:
        return partial(ObjectBlobs, str(tmp_path / "blobs"))

    @pytest.fixture
    def alter(self, tmp_path: Path) -> Alter:
        def write(digest: str, content: bytes) -> None:
            (file,) = tmp_path.rglob(digest)
            file.write_bytes(content)

        return write


class TestOnS3(BlobsSuite):
    @pytest.fixture
    def opener(self, s3_url: str) -> Callable[[], Blobs]:
        return partial(ObjectBlobs, f"{s3_url}/project/blobs")

    @pytest.fixture
    def alter(self, s3_url: str) -> Alter:
        def write(digest: str, content: bytes) -> None:
            store = from_url(s3_url)
            (place,) = [
                found["path"] for page in store.list() for found in page if found["path"].endswith(f"/{digest}")
            ]
            store.put(place, content)

        return write
