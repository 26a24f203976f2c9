"""The code of a project in one piece: the same files give the same bytes, whatever else lies among them."""

import io
import os
import subprocess
import zipfile
from pathlib import Path

from tidemill.host.git import code_of, commit_of


def a_project(folder: Path) -> Path:
    (folder / "more").mkdir(parents=True)
    (folder / "pipeline.py").write_text("x = 1\n")
    (folder / "more" / "größe.sql").write_text("SELECT 1\n")
    (folder / "rows.csv").write_text("a\n1\n")
    return folder


def test_the_same_files_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = a_project(tmp_path / "first"), a_project(tmp_path / "second")
    os.utime(second / "pipeline.py", (1, 1))
    assert code_of(first) == code_of(second)
    with zipfile.ZipFile(io.BytesIO(code_of(first).packed)) as archive:
        assert archive.namelist() == ["pipeline.py", "more/größe.sql"]
    (second / "pipeline.py").write_text("x = 2\n")
    assert code_of(first).digest != code_of(second).digest


def test_links_that_lead_nowhere_pipes_and_environments_are_no_code(tmp_path: Path) -> None:
    project = a_project(tmp_path / "project")
    before = code_of(project)
    (project / "gone.py").symlink_to(project / "not-there.py")
    os.mkfifo(project / "pipe.txt")
    (project / "env").mkdir()
    (project / "env" / "pyvenv.cfg").touch()
    (project / "env" / "module.py").touch()
    assert code_of(project) == before


def test_a_commit_is_told_where_there_is_one(tmp_path: Path) -> None:
    project = a_project(tmp_path / "project")
    git = ("git", "-C", str(project), "-c", "user.name=Zoë", "-c", "user.email=zoe@example.com")
    assert commit_of(project) == {}
    subprocess.run((*git, "init", "-q"), check=True)
    assert commit_of(project) == {}, "nothing is committed yet"
    subprocess.run((*git, "add", "."), check=True)
    subprocess.run((*git, "commit", "-qm", "Begin"), check=True)
    told = commit_of(project)
    assert (len(told["commit"]), told["dirty"]) == (40, False)
    (project / "pipeline.py").write_text("x = 2\n")
    assert commit_of(project) == told | {"dirty": True}
