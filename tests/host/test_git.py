"""The code snapshot of a project: equal files result in equal bytes; other files are ignored."""

import io
import os
import subprocess
import zipfile
from pathlib import Path

from tidemill.host.git import read_commit, snapshot_code


def create_project(folder: Path) -> Path:
    (folder / "more").mkdir(parents=True)
    (folder / "pipeline.py").write_text("x = 1\n")
    (folder / "more" / "größe.sql").write_text("SELECT 1\n")
    (folder / "rows.csv").write_text("a\n1\n")
    return folder


def test_equal_files_result_in_equal_bytes(tmp_path: Path) -> None:
    first, second = create_project(tmp_path / "first"), create_project(tmp_path / "second")
    os.utime(second / "pipeline.py", (1, 1))
    assert snapshot_code(first) == snapshot_code(second)
    with zipfile.ZipFile(io.BytesIO(snapshot_code(first).archive)) as archive:
        assert archive.namelist() == ["pipeline.py", "more/größe.sql"]
    (second / "pipeline.py").write_text("x = 2\n")
    assert snapshot_code(first).digest != snapshot_code(second).digest


def test_broken_links_pipes_and_environments_are_ignored(tmp_path: Path) -> None:
    project = create_project(tmp_path / "project")
    before = snapshot_code(project)
    (project / "broken.py").symlink_to(project / "missing.py")
    os.mkfifo(project / "pipe.txt")
    (project / "env").mkdir()
    (project / "env" / "pyvenv.cfg").touch()
    (project / "env" / "module.py").touch()
    assert snapshot_code(project) == before


def test_the_commit_is_read_and_is_empty_without_one(tmp_path: Path) -> None:
    project = create_project(tmp_path / "project")
    git = ("git", "-C", str(project), "-c", "user.name=Zoë", "-c", "user.email=zoe@example.com")
    assert read_commit(project) == {}
    subprocess.run((*git, "init", "-q"), check=True)
    assert read_commit(project) == {}, "nothing is committed yet"
    subprocess.run((*git, "add", "."), check=True)
    subprocess.run((*git, "commit", "-qm", "Begin"), check=True)
    commit = read_commit(project)
    assert (len(commit["commit"]), commit["dirty"]) == (40, False)
    (project / "pipeline.py").write_text("x = 2\n")
    assert read_commit(project) == commit | {"dirty": True}
