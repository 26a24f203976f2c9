"""Pushes: a real hook records them, and the daemon builds each once, also those made while it was down."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.delivery.repositories import Repository, git
from tests.projects import DOUBLING, listed, tidemill
from tidemill.clock import SystemClock
from tidemill.core.ci import Ci
from tidemill.core.event import Event
from tidemill.delivery.pushes import find_pusher, receive_pushes
from tidemill.errors import InputError


def events(repository: Repository, kind: str = "push") -> list[Event]:
    return repository.session.workspace.ledger.events.find(kind=kind)


@contextmanager
def up(folder: Path) -> Iterator[Path]:
    log = folder / "up.log"
    with log.open("w") as output:
        command = (sys.executable, "-m", "tidemill", "up", "--env", "ci", "--port", "0", "--pages-port", "0")
        process = subprocess.Popen(command, cwd=folder, stderr=output, env=os.environ)
    try:
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0, log.read_text()


def until(test: Callable[[], Any], seconds: float = 300) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := test()):
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.1)
    return value


def test_the_daemon_builds_each_push_once_also_those_before_its_first_start(repository: Repository) -> None:
    tidemill(repository.host, "ci", "install-hook", str(repository.bare))
    first = repository.push({"pipeline.py": DOUBLING + "# one\n"})
    git(repository.work, "push", "-q", "origin", "HEAD:refs/heads/feature/other")
    assert [event.payload["commit"] for event in events(repository)] == [first, first]
    with up(repository.host) as log:
        until(lambda: repository.builds)
        second = repository.push({"pipeline.py": DOUBLING + "# two\n"})  # while the other push is built
        until(lambda: any(build.commit == second for build in repository.builds))
        until(lambda: all(job["state"] == "done" for job in listed(repository.host, "jobs", "list")))
        assert "push: ci is due" in log.read_text()
    builds = {(build.commit, build.branch): build for build in repository.builds}
    assert set(builds) == {(first, "main"), (first, "feature/other"), (second, "main")}
    assert sorted(build.number for build in repository.builds) == [1, 2, 3]
    assert {build.state for build in repository.builds} == {"passed"}
    assert builds[second, "main"].base == first
    jobs = listed(repository.host, "jobs", "list")
    assert len({job["dedupe_key"] for job in jobs}) == len(jobs)
    run = repository.session.workspace.ledger.runs.get(builds[second, "main"].run)
    assert run.cause["trigger"] == "push"


def test_the_hook_records_forced_pushes_and_deleted_branches_and_never_fails(repository: Repository) -> None:
    tidemill(repository.host, "ci", "install-hook", str(repository.bare))
    first = repository.push({"pipeline.py": DOUBLING + "# one\n"})
    git(repository.work, "reset", "-q", "--hard", "HEAD~1")
    second = repository.push({"pipeline.py": DOUBLING + "# two\n"})
    git(repository.work, "push", "-q", "--force", "origin", f"{first}:refs/heads/main")
    git(repository.work, "push", "-q", "origin", "HEAD:refs/heads/topic", "HEAD:refs/tags/v1")
    git(repository.work, "push", "-q", "origin", ":refs/heads/topic")
    recorded = [(event.subject, event.payload["commit"]) for event in events(repository)]
    assert recorded == [("main", first), ("main", second), ("topic", second)]
    (deleted,) = events(repository, "branch.deleted")
    assert (deleted.subject, deleted.payload["commit"]) == ("topic", second)
    (repository.host / "tidemill.toml").write_text("wrong")
    pushed = subprocess.run(
        ["git", "-C", str(repository.work), "push", "origin", "HEAD:refs/heads/late"], capture_output=True, text=True
    )
    assert pushed.returncode == 0
    assert "the push is not recorded" in pushed.stderr


def test_a_hook_of_another_origin_is_kept(repository: Repository, tmp_path: Path) -> None:
    hook = repository.bare / "hooks" / "post-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho mine\n")
    refused = tidemill(repository.host, "ci", "install-hook", str(repository.bare), code=2)
    assert "ci receive" in refused.stderr
    assert "echo mine" in hook.read_text()
    with pytest.raises(AssertionError, match="is not a bare repository"):
        tidemill(repository.host, "ci", "install-hook", str(tmp_path / "none"))


def test_only_watched_branches_are_recorded(repository: Repository) -> None:
    lines = [f"{'0' * 40} {repository.commit} refs/heads/{branch}" for branch in ("main", "release/2", "draft")]
    ledger = repository.session.workspace.ledger
    settings = Ci(branches=("main", "release/*"))
    pushes = list(receive_pushes(lines, str(repository.bare), "ann", settings, ledger, SystemClock(), "production"))
    assert [push.state for push in pushes] == ["new", "new", "not watched"]
    again = receive_pushes(lines, str(repository.bare), "ann", settings, ledger, SystemClock(), "production")
    assert [push.state for push in again] == ["known", "known", "not watched"]
    assert {event.payload["pusher"] for event in events(repository)} == {"ann"}


def test_the_pusher_is_the_user_that_the_git_server_has_authenticated(tmp_path: Path) -> None:
    assert find_pusher(str(tmp_path), {"GL_USERNAME": "bob"}) == "bob"
    assert find_pusher(str(tmp_path), {"REMOTE_USER": "carol", "USER": "eve"}) == "carol"
    assert find_pusher(str(tmp_path), {"USER": "eve"}) != "eve"


@pytest.mark.skipif(os.geteuid() != 0, reason="another owner can be set by root only")
def test_another_account_than_the_owner_cannot_choose_the_pusher(tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    assert find_pusher(str(tmp_path), {"GL_USERNAME": "bob"}) == "root"


def test_an_error_names_the_cure(repository: Repository) -> None:
    from tidemill.delivery.pushes import install_hook

    with pytest.raises(InputError, match="git init --bare"):
        install_hook(repository.work, "kit", repository.host, "production")
