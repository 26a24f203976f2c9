"""Packages by digest, from the blobs."""

from pathlib import Path

import pytest

from tidemill.blobs.packages import BlobPackages
from tidemill.blobs.store import DiskBlobs
from tidemill.core.model import Manifest, Model, Signature
from tidemill.errors import Corrupt, NotFound


def package(place: int = 0) -> Model:
    manifest = Manifest(name=f"late-{place}", flavor="lightgbm", signature=Signature(inputs=(), task="regression"))
    return Model(manifest=manifest, files={"model.txt": b"tree"})


def test_packages_come_back_and_equal_ones_are_one(tmp_path: Path) -> None:
    packages = BlobPackages(DiskBlobs(str(tmp_path)))
    digests = [packages.save(package(place)) for place in range(12)]
    assert packages.save(package(3)) == digests[3]
    assert [packages.load(digest) for digest in digests] == [package(place) for place in range(12)]
    assert packages.load(digests[0]) == package(0)


def test_an_altered_or_missing_package_is_told(tmp_path: Path) -> None:
    digest = BlobPackages(DiskBlobs(str(tmp_path))).save(package())
    packages = BlobPackages(DiskBlobs(str(tmp_path)))
    (file,) = tmp_path.rglob(digest)
    file.write_bytes(file.read_bytes() + b"?")
    with pytest.raises(Corrupt):
        packages.load(digest)
    file.unlink()
    with pytest.raises(NotFound):
        packages.load(digest)
