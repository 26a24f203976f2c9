"""A small project in a git repository, for tests of CI: no model, so its tests and plans are fast."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests import parts
from tests.projects import DOUBLING, tidemill
from tidemill.compose.session import open_session
from tidemill.core.build import Build
from tidemill.core.check import Verdict
from tidemill.delivery.locking import lock_project, read_sources
from tidemill.flow.session import Session
from tidemill.host.git import list_code_files
from tidemill.project.project import Project

POLICY = """\
[project]
name = "kit"

[sources.rows]
path = "data/*.csv"

[ci]
image = "never"
notes = false

[[triggers]]
name = "push"
on = "push"
pipeline = "ci"
"""
TEST = "from pipeline import double\n\n\ndef test_double() -> None:\n    assert double(2) == 4\n"


def git(folder: Path, *arguments: str, email: str = "ann@example.com") -> str:
    identity = ("-c", f"user.email={email}", "-c", "user.name=ann")
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


class Repository:
    """A bare repository, a clone to work in, and the project that runs CI for it, each in a folder of its own.

    `environments` is a folder that keeps the environments of builds for other tests.
    """

    def __init__(self, folder: Path, environments: Path, policy: str = POLICY) -> None:
        self.bare, self.work, self.host = folder / "kit.git", folder / "work", folder / "host"
        git(folder, "init", "-q", "--bare", "-b", "main", str(self.bare))
        git(folder, "init", "-q", "-b", "main", str(self.work))
        git(self.work, "remote", "add", "origin", str(self.bare))
        self.host.mkdir()
        (self.host / "tidemill.toml").write_text(policy)
        (self.host / "pipeline.py").write_text(DOUBLING)
        kept = self.host / ".tidemill" / "ci"
        kept.mkdir(parents=True)
        (kept / "environments").symlink_to(environments)
        files = {"tidemill.toml": policy, "pipeline.py": DOUBLING, "tests/test_kit.py": TEST}
        self.commit = self.push(files | write_locks(files))

    def write(self, files: dict[str, str | bytes | None], *, email: str = "ann@example.com") -> str:
        """Commit these files; None deletes one."""
        for name, text in files.items():
            file = self.work / name
            file.parent.mkdir(parents=True, exist_ok=True)
            if text is None:
                file.unlink()
            else:
                file.write_bytes(text.encode() if isinstance(text, str) else text)
        git(self.work, "add", "-A")
        git(self.work, "commit", "-q", "--allow-empty", "-m", "change", email=email)
        return git(self.work, "rev-parse", "HEAD")

    def push(self, files: dict[str, Any], branch: str = "main", *, email: str = "ann@example.com") -> str:
        commit = self.write(files, email=email)
        git(self.work, "push", "-q", "--force", "origin", f"HEAD:refs/heads/{branch}")
        return commit

    def run(self, *options: str, code: int = 0, **environment: str) -> "subprocess.CompletedProcess[str]":
        """Run `ci run` on the bare repository."""
        return tidemill(self.host, "ci", "run", "--remote", str(self.bare), *options, code=code, **environment)

    def build(self, *options: str, code: int = 0) -> Build:
        """Run `ci run` and return the build."""
        self.run(*options, code=code)
        return self.builds[-1]

    @property
    def session(self) -> Session:
        return open_session(Project(self.host))

    @property
    def builds(self) -> list[Build]:
        return sorted(self.session.workspace.ledger.builds.find(), key=lambda build: build.number)

    def verdicts(self, build: Build) -> dict[str, Verdict]:
        return {verdict.check: verdict for verdict in self.session.workspace.ledger.verdicts.find(run=build.run)}

    def artifact(self, build: Build, name: str) -> bytes:
        return self.session.workspace.blobs.get(build.artifacts[name])


def write_locks(files: dict[str, str]) -> dict[str, str]:
    """The locks of a project with these files, from the packages of this environment."""
    sources = {name: text for name, text in files.items() if name.endswith(".py")}
    runtime, tests = lock_project(sources).texts
    return {"requirements.lock": runtime, "requirements-test.lock": tests}


def read_project(folder: Path) -> dict[str, bytes]:
    """The files of a project in a folder, without its workspace."""
    files = {file for file in folder.rglob("*") if file.is_file() and ".tidemill" not in file.parts}
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(files)}


def lock_folder(folder: Path) -> dict[str, str]:
    """The locks of the project in a folder."""
    return write_locks(read_sources(folder, list_code_files(folder)))


def decode(text: str | bytes) -> Any:
    return msgspec.json.decode(text)


@contextmanager
def open_registry() -> Iterator[str]:
    """Run a registry of images; skip the test if this machine has none."""
    try:
        with parts.registry() as address:
            yield address
    except parts.PartMissing as missing:
        pytest.skip(f"not on this machine: {missing}")
