"""Only the user of the process can read the stores and the backups of a workspace."""

import os
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from tidemill.compose.backends import open_workspace
from tidemill.testing.board import route
from tidemill.testing.journal import START, rows
from tidemill.testing.ledger import run
from tidemill.testing.online import NOON
from tidemill.upkeep.backup import BackupOrigin, back_up, open_atomically


def test_nobody_else_can_read_a_workspace_or_a_backup(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        workspace = open_workspace(tmp_path / "state")
        workspace.ledger.runs.add(run(1))
        workspace.blobs.put(b"tide")
        workspace.journal.append("labels/late", rows(START, value=[1]))
        workspace.tables.append("rows", "a", pl.DataFrame({"x": [1]}))
        workspace.board.publish(route(1))
        workspace.online.write("view", [("a", NOON, {"x": 1})])
        with open_atomically(tmp_path / "backup.tar") as sink:
            back_up(workspace, sink, BackupOrigin("0", "late", ""), datetime(2026, 1, 1, tzinfo=UTC))
    finally:
        os.umask(before)
    assert (tmp_path / "backup.tar").stat().st_mode & 0o077 == 0
    folders = [path for path in (tmp_path / "state").rglob("*") if path.is_dir()]
    open_folders = {path.name for path in folders if path.stat().st_mode & 0o077}
    assert open_folders <= {"_delta_log"}, "it is in a folder that nobody else can enter"
    readable = [path for path in (tmp_path / "state").rglob("*") if path.is_file() and path.stat().st_mode & 0o077]
    assert not {path.suffix for path in readable} & {".db", ".arrow", ".store"}
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
