"""A backup that was changed is refused, and nothing is lost."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.upkeep.filled import reported, restored, work
from tidemill.compose.backends import open_workspace
from tidemill.errors import Corrupt, TidemillError


def _rewritten(file: Path, change: Callable[[str, bytes], tuple[str, bytes] | None]) -> None:
    """A backup with other members."""
    sink = io.BytesIO()
    with tarfile.open(file) as old, tarfile.open(fileobj=sink, mode="w") as new:
        for member in old:
            source = old.extractfile(member)
            assert source is not None
            changed = change(member.name, source.read())
            if changed is not None:
                header = tarfile.TarInfo(changed[0])
                header.size = len(changed[1])
                new.addfile(header, io.BytesIO(changed[1]))
    file.write_bytes(sink.getvalue())


def _cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def _without_end(file: Path) -> None:
    _rewritten(file, lambda name, content: (name, content) if name != "manifest.json" else None)


def _blob_altered(file: Path) -> None:
    _rewritten(file, lambda name, content: (name, content + b"x" if name.startswith("blobs/") else content))


def _ledger_altered(file: Path) -> None:
    _rewritten(file, lambda name, content: (name, content.replace(b'"done"', b'"gone"')))


def _file_left_out(file: Path) -> None:
    _rewritten(file, lambda name, content: (name, content) if not name.endswith(".arrow") else None)


def _leads_out(file: Path) -> None:
    _rewritten(file, lambda name, content: (name.replace("environments/", "environments/../../../../"), content))


def _newer(file: Path) -> None:
    _rewritten(file, lambda name, content: (name, content.replace(b'"format":1', b'"format":2')))


def _other(file: Path) -> None:
    file.write_text("this is no backup")


def _empty(file: Path) -> None:
    file.write_bytes(b"")


@pytest.mark.parametrize(
    "spoil", [_cut, _without_end, _blob_altered, _ledger_altered, _file_left_out, _leads_out, _newer, _other, _empty]
)
def test_a_spoilt_backup_is_refused_and_nothing_changed(
    file: Path, tmp_path: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(file)
    work(open_workspace(tmp_path / "there"), "other")
    held = reported(open_workspace(tmp_path / "there"))
    with pytest.raises(TidemillError) as refused:
        restored(file, tmp_path / "there", force=True)
    assert isinstance(refused.value, Corrupt) == (spoil is not _newer)
    assert refused.value.cure
    assert reported(open_workspace(tmp_path / "there")) == held
    assert not [left for left in (tmp_path / "there").iterdir() if "restor" in left.name]
