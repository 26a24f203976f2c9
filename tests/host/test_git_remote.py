"""Commits are read without running anything of their repository, and notes are written."""

import subprocess
from pathlib import Path

import pytest

from tidemill.errors import InputError, NotFound, TidemillError
from tidemill.host.git_remote import (
    fetch_commit,
    find_default_branch,
    list_branches,
    read_note,
    require_branch,
    require_remote,
    write_note,
)


def git(folder: Path, *arguments: str, email: str = "ann@example.com") -> str:
    identity = ("-c", f"user.email={email}", "-c", "user.name=x", "-c", "protocol.file.allow=always")
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "work"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    (folder / "a.py").write_text("1\n")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "first")
    return folder


@pytest.mark.parametrize("remote", ["--upload-pack=x", "ext::sh -c date", "http://host/x", "git://host/x"])
def test_other_protocols_and_options_are_refused(remote: str) -> None:
    with pytest.raises((InputError, NotFound)):
        require_remote(remote)


@pytest.mark.parametrize("branch", ["-x", "a..b", "a b", "a:b", "", "a.lock", "x@{1}", "/a"])
def test_names_that_are_no_branches_are_refused(branch: str) -> None:
    with pytest.raises(InputError):
        require_branch(branch)


def test_a_commit_is_read_with_its_authors_since_the_base(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    (repository / "b.sh").write_text("date\n")
    (repository / "b.sh").chmod(0o755)
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "second", email="bob@example.com")
    commit = fetch_commit(str(repository), "main", "", first)
    assert (commit.base, commit.authors) == (first, ("bob@example.com",))
    assert commit.files == {"a.py": b"1\n", "b.sh": b"date\n"}
    assert commit.executable == {"b.sh"}
    assert find_default_branch(str(repository)) == "main"
    assert list_branches(str(repository)) == {"main": commit.commit}


def test_links_and_submodules_are_skipped(repository: Path, tmp_path: Path) -> None:
    (repository / "link").symlink_to("/etc/passwd")
    git(repository, "submodule", "--quiet", "add", "--", str(repository), "part")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "links")
    commit = fetch_commit(str(repository), "main", "")
    assert commit.skipped == ("link", "part")
    assert set(commit.files) == {".gitmodules", "a.py"}


def test_a_replaced_commit_and_a_deleted_branch_are_named(repository: Path) -> None:
    git(repository, "commit", "-q", "--allow-empty", "-m", "wrong")
    wrong = git(repository, "rev-parse", "HEAD")
    git(repository, "reset", "-q", "--hard", "HEAD~1")
    with pytest.raises(NotFound, match="does not contain the commit"):
        fetch_commit(str(repository), "main", wrong)
    with pytest.raises(NotFound, match="has no branch 'gone'"):
        fetch_commit(str(repository), "gone", "")


def test_no_hook_runs(repository: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    for name in ("post-checkout", "post-merge", "reference-transaction", "post-receive", "pre-receive"):
        hook = repository / ".git" / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
        hook.chmod(0o755)
    fetch_commit(str(repository), "main", "")
    assert not mark.exists()


def test_notes_are_added_to_those_of_others(repository: Path) -> None:
    first = git(repository, "rev-parse", "HEAD")
    git(repository, "notes", "--ref=refs/notes/tidemill", "add", "-m", "of others", first)
    git(repository, "commit", "-q", "--allow-empty", "-m", "second")
    second = git(repository, "rev-parse", "HEAD")
    write_note(str(repository), second, "state: passed\n")
    write_note(str(repository), second, "state: refused\n")
    assert read_note(repository, first).strip() == "of others"
    assert read_note(repository, second).strip() == "state: refused"


def test_an_error_does_not_repeat_a_password() -> None:
    with pytest.raises(TidemillError) as raised:
        list_branches("https://bob:hunter22@127.0.0.1:1/x.git")
    assert "hunter22" not in str(raised.value)
