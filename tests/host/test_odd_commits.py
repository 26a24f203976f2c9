"""Commits as git allows them: bytes that are no UTF-8, control characters, no address, odd files, shallow clones."""

import os
import subprocess
from pathlib import Path

import pytest

from tidemill.errors import InputError
from tidemill.host.git import list_code_files, snapshot_code
from tidemill.host.git_remote import RemoteCommit, fetch_commit, list_branches


class Work:
    """A repository whose commits are written byte by byte."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.git("init", "-q", "-b", "main", ".")
        (folder / "pipeline.py").write_text("x = 1\n")

    def git(self, *arguments: str | bytes, sent: bytes = b"") -> str:
        identity = ("-c", "user.email=ann@example.com", "-c", "user.name=ann", "-c", "protocol.file.allow=always")
        command = ["git", "-C", str(self.folder), *identity, *arguments]
        done = subprocess.run(command, input=sent, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode().strip()

    def commit(self, author: bytes, message: bytes = b"x\n", branch: str = "main") -> str:
        self.git("add", "-A")
        tree = self.git("write-tree").encode()
        tip = self.git("for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")
        parent = f"parent {tip}\n".encode() if tip else b""
        people = b"author %b 1700000000 +0000\ncommitter %b 1700000000 +0000\n" % (author, author)
        body = b"tree " + tree + b"\n" + parent + people + b"\n" + message
        commit = self.git("hash-object", "-t", "commit", "-w", "--literally", "--stdin", sent=body)
        self.git("update-ref", f"refs/heads/{branch}", commit)
        return commit

    def fetch(self, branch: str = "main", base: str = "") -> RemoteCommit:
        return fetch_commit(str(self.folder), branch, "", base)


@pytest.fixture
def work(tmp_path: Path) -> Work:
    (tmp_path / "work").mkdir()
    return Work(tmp_path / "work")


@pytest.mark.parametrize(
    ("author", "listed"),
    [
        (b"Ann <Ann@Example.com>", "ann@example.com"),
        ("Jürg <jürg@example.com>".encode(), "jürg@example.com"),
        ("Jürg <jürg@example.com>".encode("latin-1"), "j\\xfcrg@example.com"),
        (b"Eve <e\x1b[2Jve@example.com>", "e\\x1b[2jve@example.com"),
        ("Eve <e\u2028ve@ex\x85ample.com>".encode(), "e\u2028ve@ex\\x85ample.com"),
        (b"Nobody <>", "nobody"),
        (b" <>", "?"),
    ],
)
def test_every_commit_has_an_author_that_can_be_stored_and_printed(work: Work, author: bytes, listed: str) -> None:
    before = work.commit(b"Ann <ann@example.com>")
    work.commit(author, "Größe\n".encode("latin-1"))
    fetched = work.fetch(base=before)
    assert fetched.authors == (listed,)
    assert "".join(fetched.authors).encode()


def test_a_commit_without_a_message_or_a_change_is_read(work: Work) -> None:
    first = work.commit(b"Ann <ann@example.com>", b"")
    second = work.commit(b"Ann <ann@example.com>", b"")
    assert work.fetch(base=first).commit == second
    assert work.fetch().files == {"pipeline.py": b"x = 1\n"}


@pytest.mark.parametrize("branch", ["feature/größe/数据-1", "release/2.0", "a\u2028b", "UPPER", "1"])
def test_branches_have_any_name(work: Work, branch: str) -> None:
    commit = work.commit(b"Ann <ann@example.com>", branch=branch)
    assert list_branches(str(work.folder)) == {branch: commit}
    assert work.fetch(branch).commit == commit


def test_files_that_no_package_could_contain_are_named_and_left_out(work: Work, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Work(other).commit(b"Ann <ann@example.com>")
    for name in (b"gr\xf6\xdfe.py", b"a\nb.csv", b"\x1b[2J.txt"):
        Path(os.fsdecode(os.fsencode(work.folder) + b"/" + name)).write_text("x = 1\n")
    (work.folder / "größe.py").write_text("x = 1\n")
    (work.folder / "link").symlink_to("/etc/passwd")
    work.git("submodule", "add", "-q", str(other), "vendored")
    work.commit(b"Ann <ann@example.com>")
    fetched = work.fetch()
    assert sorted(fetched.files) == [".gitmodules", "größe.py", "pipeline.py"]
    assert fetched.skipped == ("\\x1b[2J.txt", "a\\x0ab.csv", "gr\\xf6\\xdfe.py", "link", "vendored")


def test_the_code_of_a_folder_has_only_files_that_python_could_import(work: Work) -> None:
    Path(os.fsdecode(os.fsencode(work.folder) + b"/gr\xf6.py")).write_text("x = 1\n")
    assert [file.name for file in list_code_files(work.folder)] == ["pipeline.py"]
    assert snapshot_code(work.folder).digest


def test_a_shallow_clone_is_refused_because_it_does_not_know_all_authors(work: Work, tmp_path: Path) -> None:
    work.commit(b"Eve <eve@example.com>")
    work.commit(b"Ann <ann@example.com>")
    shallow = tmp_path / "shallow.git"
    work.git("clone", "-q", "--bare", "--depth", "1", f"file://{work.folder}", str(shallow))
    with pytest.raises(InputError, match="is a shallow clone") as refused:
        fetch_commit(str(shallow), "main", "")
    assert "--unshallow" in refused.value.cure
