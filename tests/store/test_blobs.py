"""Blobs where the disk or the store refuses; what all back ends promise is in tests/conformance."""

import resource
from pathlib import Path

import pytest

from tests.store.kit import in_child
from tidemill.errors import NotFound, TidemillError
from tidemill.store.blobs import DiskBlobs, digest_of, open_blobs


def test_a_path_that_cannot_be_a_folder_is_refused_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(TidemillError, match="cannot be opened") as refused:
        DiskBlobs(str(tmp_path / "file" / "blobs"))
    assert "permissions" in refused.value.cure


def test_a_url_of_no_store_is_refused() -> None:
    with pytest.raises(TidemillError, match="carrier-pigeon"):
        open_blobs("carrier-pigeon://loft")


def test_what_is_in_the_way_is_not_taken_for_a_missing_blob(tmp_path: Path) -> None:
    digest = digest_of(b"tide")
    blobs = DiskBlobs(str(tmp_path))
    (tmp_path / digest[:2]).mkdir()
    (tmp_path / digest[:2] / digest).symlink_to(tmp_path / digest[:2] / digest)
    with pytest.raises(TidemillError, match="cannot be reached") as refused:
        blobs.get(digest)
    assert not isinstance(refused.value, NotFound)
    assert refused.value.cure


def test_a_bucket_that_is_not_there_is_told(s3_url: str) -> None:
    blobs = open_blobs(f"{s3_url}-not-there")
    with pytest.raises(TidemillError, match="could not be written") as refused:
        blobs.put(b"tide")
    assert refused.value.cure


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    told = in_child(
        f"""
        from tidemill.store.blobs import DiskBlobs
        blobs = DiskBlobs({str(tmp_path)!r})
        blobs.put(b"small")
        explain(lambda: blobs.put(b"x" * 1_000_000))
        print(blobs.has({digest_of(b"x" * 1_000_000)!r}), blobs.get({digest_of(b"small")!r}))
        """,
        limits={resource.RLIMIT_FSIZE: 100_000},
    )
    assert "TidemillError: a blob of 1000000 bytes could not be written" in told
    assert "free some space" in told
    assert told.endswith("False b'small'\n")
    assert [file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()] == [5]


def test_a_read_only_folder_is_told(tmp_path: Path) -> None:
    DiskBlobs(str(tmp_path)).put(b"tide")
    told = in_child(
        f"""
        from tidemill.store.blobs import DiskBlobs
        blobs = DiskBlobs({str(tmp_path)!r})
        print(blobs.get({digest_of(b"tide")!r}))
        explain(lambda: blobs.put(b"ebb"))
        """,
        read_only=tmp_path,
    )
    assert told.startswith("b'tide'\nTidemillError: a blob of 3 bytes could not be written")
    assert "permissions" in told
