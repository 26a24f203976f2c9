"""Backup and restore: all of it or nothing, from any database into any other, while everybody goes on writing."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import polars as pl
import pytest

from tests.processes import in_child
from tests.upkeep.filled import ABOUT, NOW, reported, restored, taken, work
from tidemill.blobs import artifacts
from tidemill.compose.backends import open_workspace
from tidemill.core.run import Run
from tidemill.errors import Conflict
from tidemill.testing.processes import run_in_processes
from tidemill.upkeep.backup import BackupManifest, back_up
from tidemill.upkeep.lock import upkeep
from tidemill.workspace.workspace import Workspace


def test_a_restored_workspace_is_the_same(workspace: Workspace, tmp_path: Path) -> None:
    manifest = taken(workspace, tmp_path / "b.tar")
    assert (manifest.blobs, manifest.records["runs"], manifest.missing) == (9, 3, ())
    again = restored(tmp_path / "b.tar", tmp_path / "there")
    assert reported(again) == reported(workspace)
    assert again.tables.read("orders", 0)["name"].to_list() == ["one"]
    assert not [left for left in (tmp_path / "there").iterdir() if "restor" in left.name]
    work(again, "four")
    assert again.ledger.runs.find(pipeline="p", newest=True, limit=1)[0].id == "two"


def test_from_one_database_into_the_other_and_back(
    workspace: Workspace, tmp_path: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = reported(workspace)
    taken(workspace, tmp_path / "sqlite.tar")
    monkeypatch.setenv("TIDEMILL_LEDGER", postgres_url)
    server = restored(tmp_path / "sqlite.tar", tmp_path / "server")
    assert reported(server) == before
    taken(server, tmp_path / "postgres.tar")
    with pytest.raises(Conflict, match="not empty"):
        restored(tmp_path / "postgres.tar", tmp_path / "other")
    work(server, "four")
    forced = restored(tmp_path / "postgres.tar", tmp_path / "server", force=True)
    assert reported(forced) == before
    monkeypatch.delenv("TIDEMILL_LEDGER")
    assert reported(restored(tmp_path / "postgres.tar", tmp_path / "back")) == before


def test_blobs_kept_elsewhere_go_there(
    workspace: Workspace, tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken(workspace, tmp_path / "b.tar")
    monkeypatch.setenv("TIDEMILL_BLOBS", s3_url)
    before = reported(open_workspace(tmp_path / "here", urls={"blobs": str(tmp_path / "here" / "blobs")}))
    assert reported(restored(tmp_path / "b.tar", tmp_path / "there")) == before
    assert not (tmp_path / "there" / "blobs").exists()


def test_a_backup_beside_eight_writers_has_all_that_its_ledger_names(tmp_path: Path) -> None:
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(run_in_processes, 2, _write_until_told, tmp_path)
        here = open_workspace(tmp_path / "here")
        while len(here.ledger.runs.find()) < 8:
            time.sleep(0.02)
        manifest = taken(here, tmp_path / "b.tar")
        (tmp_path / "enough").touch()
        written = sum(writing.result())
    assert manifest.missing == ()
    there = restored(tmp_path / "b.tar", tmp_path / "there")
    runs = {run.id for run in there.ledger.runs.find()}
    assert 8 <= len(runs) <= written
    assert {step.run for step in there.ledger.steps.find()} == runs
    for artifact in there.ledger.artifacts.find():
        assert there.blobs.get(artifact.id)
    for release in there.ledger.releases.find():
        assert there.blobs.get(release.package)
    assert runs <= set(there.journal.read("labels/late")["name"])
    assert runs <= set(there.tables.read("orders", there.tables.version("orders"))["name"])
    taken(here, tmp_path / "quiet.tar")
    assert reported(restored(tmp_path / "quiet.tar", tmp_path / "quiet")) == reported(here)


def _write_until_told(place: int, folder: Path) -> int:
    def write(writer: int) -> int:
        workspace = open_workspace(folder / "here")
        done = 0
        while not (folder / "enough").exists():
            work(workspace, f"{place}-{writer}-{done}")
            done += 1
        return done

    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(write, range(4)))


def test_what_is_not_empty_is_moved_aside_and_only_when_asked(workspace: Workspace, tmp_path: Path) -> None:
    before = reported(workspace)
    taken(workspace, tmp_path / "b.tar")
    other = open_workspace(tmp_path / "there")
    work(other, "other")
    (tmp_path / "there" / "notes.txt").write_text("mine")
    held = reported(other)
    with pytest.raises(Conflict, match="not empty") as refused:
        restored(tmp_path / "b.tar", tmp_path / "there")
    assert "--force" in refused.value.cure
    assert reported(open_workspace(tmp_path / "there")) == held
    assert reported(restored(tmp_path / "b.tar", tmp_path / "there", force=True)) == before
    (aside,) = (tmp_path / "there").glob("before-restore-*")
    assert reported(open_workspace(aside)) == held
    assert (tmp_path / "there" / "notes.txt").read_text() == "mine"


def test_what_a_list_holds_is_in_it(workspace: Workspace, tmp_path: Path) -> None:
    whole = artifacts.write_artifact(workspace.blobs, [pl.DataFrame({"x": [1]}), pl.DataFrame({"x": [2]})])
    workspace.ledger.artifacts.add(whole)
    taken(workspace, tmp_path / "b.tar")
    there = restored(tmp_path / "b.tar", tmp_path / "there")
    assert [frame["x"][0] for frame in artifacts.read_artifact(there.blobs, whole, list[pl.DataFrame])] == [1, 2]


def test_a_run_that_was_at_work_can_be_resumed(workspace: Workspace, tmp_path: Path) -> None:
    workspace.ledger.runs.add(Run(id="x", pipeline="p", environment="production", state="running", started=NOW))
    taken(workspace, tmp_path / "b.tar")
    assert restored(tmp_path / "b.tar", tmp_path / "there").ledger.runs.get("x").state == "interrupted"


def test_a_blob_that_is_gone_or_altered_is_named_and_left_out(workspace: Workspace, tmp_path: Path) -> None:
    gone, altered = (workspace.ledger.runs.get(name).packages for name in ("one", "two"))
    workspace.blobs.delete(gone)
    (tmp_path / "here" / "blobs" / altered[:2] / altered).write_bytes(b"other")
    assert set(taken(workspace, tmp_path / "b.tar").missing) == {gone, altered}
    assert restored(tmp_path / "b.tar", tmp_path / "there").ledger.runs.get("one").packages == gone


def test_it_can_be_piped_and_compressed(workspace: Workspace, tmp_path: Path) -> None:
    import gzip

    with gzip.open(tmp_path / "b.tar.gz", "wb") as sink:
        back_up(workspace, sink, ABOUT, NOW)  # type: ignore[arg-type]
    assert reported(restored(tmp_path / "b.tar.gz", tmp_path / "there")) == reported(workspace)


def test_a_corrupt_ledger_can_be_restored_over(workspace: Workspace, tmp_path: Path) -> None:
    before = reported(workspace)
    taken(workspace, tmp_path / "b.tar")
    workspace.ledger.close()
    (tmp_path / "here" / "ledger.db").write_bytes(b"not a database at all" * 1000)
    with pytest.raises(Conflict, match="not empty"):
        restored(tmp_path / "b.tar", tmp_path / "here")
    assert reported(restored(tmp_path / "b.tar", tmp_path / "here", force=True)) == before


def test_no_collection_runs_beside_a_backup_and_no_daemon_beside_a_restore(file: Path, tmp_path: Path) -> None:
    here = open_workspace(tmp_path / "here")
    with upkeep(here.root, here.database), pytest.raises(Conflict, match="is running"):
        taken(here, tmp_path / "c.tar")
    assert not (tmp_path / "c.tar").exists()
    import fcntl

    folder = tmp_path / "there" / "environments" / "production"
    folder.mkdir(parents=True)
    with (folder / "daemon.lock").open("w") as lease:
        fcntl.flock(lease, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="daemon"):
            restored(file, tmp_path / "there")


_ACT = """
import sys
from pathlib import Path
from tests.upkeep.filled import open_workspace, restored, taken
what, folder = sys.argv[1], Path(sys.argv[2])
if what == "backup":
    taken(open_workspace(folder / "here"), folder / "c.tar")
else:
    restored(folder / "b.tar", folder / "there", force=True)
"""


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("backup", "backup has a book#3"),
        ("backup", "backup has all but the manifest"),
        ("restore", "restore has verified"),
        ("restore", "restore has the ledger"),
        ("restore", "restore has moved aside"),
    ],
)
def test_killed_anywhere_it_is_done_again(file: Path, tmp_path: Path, what: str, fault: str) -> None:
    here, there = open_workspace(tmp_path / "here"), tmp_path / "there"
    work(open_workspace(there), "other")
    held = reported(open_workspace(there))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "TIDEMILL_FAULT": fault}
    done = subprocess.run([sys.executable, "-c", _ACT, what, str(tmp_path)], env=environment, timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert not (tmp_path / "c.tar").exists()
    if "aside" not in fault:
        assert reported(open_workspace(there)) == held
    taken(here, tmp_path / "c.tar")
    assert reported(restored(tmp_path / "c.tar", there, force=True)) == reported(here)
    assert held in [reported(open_workspace(aside)) for aside in there.glob("before-restore-*")]
    assert not list(there.glob(".restoring-*"))


def test_a_full_disk_leaves_no_half_backup(workspace: Workspace, tmp_path: Path) -> None:
    import resource

    message = in_child(
        f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from pathlib import Path
        from tests.upkeep.filled import open_workspace, taken
        folder = Path({str(tmp_path)!r})
        explain(lambda: taken(open_workspace(folder / "here"), folder / "full.tar"))
        """,
        limits={resource.RLIMIT_FSIZE: 15_000},
    )
    assert "free space" in message
    assert [file.name for file in tmp_path.iterdir()] == ["here"]


def test_an_empty_workspace_is_backed_up_too(tmp_path: Path) -> None:
    manifest = taken(open_workspace(tmp_path / "nothing"), tmp_path / "b.tar")
    assert set(manifest.records.values()) == {0}
    assert restored(tmp_path / "b.tar", tmp_path / "there").ledger.runs.find() == []
    assert msgspec.json.decode(msgspec.json.encode(manifest), type=BackupManifest) == manifest


def test_the_old_file_stays_until_the_new_one_is_whole(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "b.tar").write_bytes(b"old")
    with upkeep(workspace.root, workspace.database), pytest.raises(Conflict):
        taken(workspace, tmp_path / "b.tar")
    assert (tmp_path / "b.tar").read_bytes() == b"old"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["b.tar", "here"]
