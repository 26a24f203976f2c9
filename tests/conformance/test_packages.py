"""Model packages in blobs pass the package suite."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tidemill.blobs.packages import BlobPackages
from tidemill.blobs.store import DiskBlobs
from tidemill.core.resources import PackageStore
from tidemill.testing.blobs import Alter
from tidemill.testing.packages import PackagesSuite


class TestInBlobs(PackagesSuite):
    @pytest.fixture
    def opener(self, tmp_path: Path) -> Callable[[], PackageStore]:
        return lambda: BlobPackages(DiskBlobs(tmp_path / "blobs"))

    @pytest.fixture
    def alter(self, tmp_path: Path) -> Alter:
        def write(digest: str, content: bytes) -> None:
            (file,) = tmp_path.rglob(digest)
            file.write_bytes(content)

        return write
