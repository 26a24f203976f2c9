"""gc, backup, restore and erase, as users type them."""

import os
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from tests.projects import listed, make_project, tidemill
from tidemill.blobs.disk import DiskBlobs


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a run."""
    folder = tmp_path_factory.mktemp("shop")
    make_project(folder)
    tidemill(folder, "run", "ingestion")
    return folder


@pytest.fixture
def shop(made: Path, tmp_path: Path) -> Path:
    """A copy of it, this test's own."""
    subprocess.run(["cp", "-r", made, tmp_path / "shop"], check=True)
    return tmp_path / "shop"


def age(folder: Path, days: float) -> None:
    """Let all blobs be so old."""
    at = time.time() - days * 86_400
    for file in (folder / ".tidemill" / "blobs").rglob("*"):
        os.utime(file, (at, at))


def test_gc_prints_what_would_go_and_does_it_only_when_confirmed(shop: Path) -> None:
    orphan = DiskBlobs(shop / ".tidemill" / "blobs").put(b"orphan")
    assert "it is new" in tidemill(shop, "gc").stdout
    age(shop, 8)
    planned = listed(shop, "gc")
    assert [(group["kind"], group["count"], group["bytes"]) for group in planned["to_delete"]] == [("orphan", 1, 6)]
    assert {group["reason"] for group in planned["to_keep"]} == {"its run has not expired"}
    message = tidemill(shop, "gc")
    assert "orphan" in message.stdout
    assert "--apply" in message.stderr
    assert DiskBlobs(shop / ".tidemill" / "blobs").has(orphan)
    assert tidemill(shop, "gc", "--apply").stdout == "1 blobs of 6 B were deleted\n"
    assert not DiskBlobs(shop / ".tidemill" / "blobs").has(orphan)
    assert listed(shop, "gc")["to_delete"] == []


def test_a_backup_is_restored_into_another_workspace(shop: Path, tmp_path: Path) -> None:
    file, there = str(tmp_path / "b.tar"), str(tmp_path / "there")
    message = tidemill(shop, "backup", file)
    assert "1 runs" in message.stderr
    message = tidemill(shop, "restore", file, TIDEMILL_WORKSPACE=there)
    assert message.stdout.startswith("restored shop")
    assert tidemill(shop, "runs", "list", TIDEMILL_WORKSPACE=there).stdout == tidemill(shop, "runs", "list").stdout
    refused = tidemill(shop, "restore", file, code=1, TIDEMILL_WORKSPACE=there)
    assert "not empty" in refused.stderr
    assert "--force" in refused.stderr
    message = tidemill(shop, "restore", file, "--force", TIDEMILL_WORKSPACE=there)
    assert "before-restore-" in message.stdout
    assert "cannot be read" in tidemill(shop, "restore", str(tmp_path / "none.tar"), code=2).stderr
    (tmp_path / "cut.tar").write_bytes((tmp_path / "b.tar").read_bytes()[:5000])
    assert "nothing was changed" in tidemill(shop, "restore", str(tmp_path / "cut.tar"), "--force", code=1).stderr


def test_a_backup_goes_through_a_pipe(shop: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tidemill"]
    here = subprocess.Popen([*command, "backup", "-"], cwd=shop, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    environment = os.environ | {"TIDEMILL_WORKSPACE": str(tmp_path / "there")}
    there = subprocess.run(
        [*command, "restore", "-"], cwd=shop, stdin=here.stdout, env=environment, capture_output=True, text=True
    )
    assert here.wait() == 0
    assert there.returncode == 0, there.stderr
    assert "restored shop" in there.stdout
    broken = subprocess.Popen([*command, "backup", "-"], cwd=shop, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert broken.stdout is not None
    assert broken.stderr is not None
    broken.stdout.close()
    assert b"incomplete" in broken.stderr.read()
    assert broken.wait() == 1


def test_a_row_is_erased_and_the_file_that_holds_it_is_named(shop: Path) -> None:
    (file,) = shop.glob("data/*.csv")
    key = pl.read_csv(file)["order_id"][3]
    tried = tidemill(shop, "erase", f"order_id={key}", "--dry-run")
    assert "1 rows to erase" in tried.stdout
    done = tidemill(shop, "erase", f"order_id={key}", "--reason", "asked")
    assert "1 rows erased" in done.stdout
    assert f"{file.name} contains 1 such rows" in done.stdout
    assert "backups" in done.stderr
    assert [entry["action"] for entry in listed(shop, "audit", "list")] == ["erased", "began to erase"]
    assert listed(shop, "erase", f"order_id={key}", "--reason=test")["rows"] == {}
    assert "no source" in tidemill(shop, "erase", "nobody=1", "--reason=test", code=2).stderr
    assert "'nobody' is not a column with a value" in tidemill(shop, "erase", "nobody", "--reason=test", code=2).stderr
