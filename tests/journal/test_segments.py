"""The rows of segments in memory: read once, bounded, and never those of a segment that no longer exists."""

from pathlib import Path

import polars as pl
import pytest

from tidemill.errors import Corrupt
from tidemill.journal.segments import SegmentCache

KIND = "labels/late"


def write(folder: Path, name: str, values: list[int]) -> str:
    file = str(folder / name)
    pl.DataFrame({"value": values}).write_ipc(file)
    return file


def test_a_segment_is_read_from_the_disk_once(tmp_path: Path) -> None:
    cache, file = SegmentCache(), write(tmp_path, "a.arrow", [1, 2])
    first = cache.read(file, KIND)
    Path(file).write_bytes(b"no longer a segment")
    assert cache.read(file, KIND).equals(first)


def test_a_deleted_segment_is_missing_although_its_rows_are_in_memory(tmp_path: Path) -> None:
    cache, file = SegmentCache(), write(tmp_path, "a.arrow", [1])
    cache.read(file, KIND)
    Path(file).unlink()
    with pytest.raises(FileNotFoundError):
        cache.read(file, KIND)


def test_rows_of_segments_that_no_longer_exist_are_forgotten(tmp_path: Path) -> None:
    cache, names = SegmentCache(), ["a.arrow", "b.arrow"]
    for name in names:
        cache.read(write(tmp_path, name, [1]), KIND)
    cache.keep(str(tmp_path), {"b.arrow"})
    for name in names:
        (tmp_path / name).write_bytes(b"")
    assert cache.read(str(tmp_path / "b.arrow"), KIND)["value"].to_list() == [1]
    with pytest.raises(Corrupt, match="cannot be read"):
        cache.read(str(tmp_path / "a.arrow"), KIND)


def test_the_rows_used_last_stay_in_memory_up_to_the_limit(tmp_path: Path) -> None:
    size = pl.DataFrame({"value": list(range(100))}).estimated_size()
    cache = SegmentCache(limit=int(2.5 * size))
    files = [write(tmp_path, f"{name}.arrow", list(range(100))) for name in "abc"]
    for file in (files[0], files[1], files[0], files[2]):
        cache.read(file, KIND)
    for file in files:
        Path(file).write_bytes(b"")
    for file in (files[0], files[2]):
        assert cache.read(file, KIND).height == 100
    with pytest.raises(Corrupt, match="cannot be read"):
        cache.read(files[1], KIND)


def test_a_segment_larger_than_half_of_the_limit_is_not_kept(tmp_path: Path) -> None:
    cache, file = SegmentCache(limit=10), write(tmp_path, "a.arrow", [1, 2, 3])
    assert cache.read(file, KIND).height == 3
    Path(file).write_bytes(b"")
    with pytest.raises(Corrupt, match="cannot be read"):
        cache.read(file, KIND)
