"""Webhooks: forged ones are refused, repeated ones change nothing, and the commit comes from the repository."""

import hashlib
import hmac
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from tests.daemon.kit import kit
from tidemill.daemon.pages import Pages
from tidemill.flow.session import Session

SECRET = "a secret of webhooks"
ZEROS = "0" * 40


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.email=ann@example.com", "-c", "user.name=ann")
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init", "-q", "-b", "main")
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    git(folder, "branch", "draft")
    return folder


@pytest.fixture
def session(tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    monkeypatch.setenv("HOOKS", SECRET)
    settings = f'[ci]\nremote = "{repository}"\nwebhook_secret = "HOOKS"\nbranches = ["main"]\n'
    return kit(tmp_path / "project", settings)


@pytest.fixture
def client(session: Session) -> Iterator[httpx.Client]:
    """A client of the real server of the pages."""
    pages = Pages(session, 0)
    pages.start()
    with httpx.Client(base_url=pages.address, timeout=30) as opened:
        yield opened
    pages.stop()


def pushes(session: Session, kind: str = "push") -> list[tuple[str, str, str]]:
    found = session.workspace.ledger.events.find(kind=kind)
    return [(event.subject, event.payload["commit"], event.payload["pusher"]) for event in found]


def push_of(commit: str, branch: str = "main") -> dict[str, Any]:
    return {
        "ref": f"refs/heads/{branch}",
        "after": commit,
        "pusher": {"name": "bob", "login": "bob"},
        "user_username": "bob",
    }


def post(client: httpx.Client, server: str, payload: Any, event: str = "push", secret: str = SECRET) -> httpx.Response:
    body = msgspec.json.encode(payload)
    signature = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    headers = {
        "github": {"x-github-event": event, "x-hub-signature-256": f"sha256={signature}"},
        "gitea": {"x-gitea-event": event, "x-gitea-signature": signature},
        "gitlab": {"x-gitlab-event": "Push Hook" if event == "push" else event, "x-gitlab-token": secret},
    }
    return client.post(f"/hooks/{server}", content=body, headers=headers[server])


@pytest.mark.parametrize("server", ["github", "gitea", "gitlab"])
def test_a_push_is_recorded_once_and_a_forged_one_is_refused(
    client: httpx.Client, session: Session, repository: Path, server: str
) -> None:
    tip = git(repository, "rev-parse", "main")
    assert post(client, server, push_of(tip), secret="another").status_code == 403
    assert pushes(session) == []
    assert post(client, server, push_of(tip)).status_code == 202
    repeated = post(client, server, push_of(tip))
    assert (repeated.status_code, repeated.json()["state"]) == (200, "known")
    assert pushes(session) == [("main", tip, "bob")]


def test_the_commit_comes_from_the_repository_and_not_from_the_payload(
    client: httpx.Client, session: Session, repository: Path
) -> None:
    tip = git(repository, "rev-parse", "main")
    assert post(client, "github", push_of("1" * 40)).json()["commit"] == tip
    assert pushes(session) == [("main", tip, "")]  # who pushed this commit is unknown
    assert post(client, "github", push_of(tip, "gone")).status_code == 200  # not watched
    assert post(client, "github", push_of(tip, "--upload-pack=x")).status_code == 400
    assert post(client, "github", push_of(ZEROS)).json()["state"] == "ignored"
    assert post(client, "github", {"ref": "refs/tags/v1", "after": tip}).json()["state"] == "ignored"
    assert len(pushes(session)) == 1


def test_forks_are_recorded_and_not_built(client: httpx.Client, session: Session, repository: Path) -> None:
    head = {"ref": "main", "sha": "2" * 40, "repo": {"full_name": "eve/x"}}
    request = {"base": {"ref": "main", "repo": {"full_name": "team/x"}}, "head": head, "merged": False}
    payload = {"pull_request": request, "sender": {"login": "eve"}}
    answered = post(client, "github", payload, "pull_request")
    assert (answered.status_code, answered.json()["state"]) == (202, "fork")
    assert pushes(session) == []
    assert pushes(session, "push.fork") == [("main", "2" * 40, "eve")]
    attributes = {"source_project_id": 2, "target_project_id": 1, "source_branch": "main", "state": "opened"}
    post(client, "gitlab", {"object_attributes": attributes | {"last_commit": {"id": "3" * 40}}}, "Merge Request Hook")
    assert len(pushes(session, "push.fork")) == 2
    merged = {**request, "merged": True, "merge_commit_sha": "4" * 40}
    assert post(client, "github", {"pull_request": merged}, "pull_request").json()["state"] == "new"
    assert [branch for branch, _, _ in pushes(session)] == ["main"]


def test_wrong_payloads_are_refused_with_a_reason(
    client: httpx.Client, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert post(client, "github", [1, 2]).status_code == 400
    assert post(client, "github", {"ref": 5}).status_code == 400
    assert post(client, "github", {"x": "y" * (26 << 20)}).status_code == 413
    assert post(client, "github", push_of(ZEROS), "issues").json()["state"] == "ignored"
    assert client.post("/hooks/other", content=b"{}").status_code == 404
    assert client.get("/hooks/github").status_code == 405
    assert client.get("/").status_code == 200  # the pages are beside it
    monkeypatch.delenv("HOOKS")
    refused = post(client, "github", push_of(ZEROS))
    assert refused.status_code == 403
    assert "webhook_secret" in refused.json()["error"]
    assert pushes(session) == []


def test_a_repository_that_cannot_be_reached_is_an_error_that_the_server_repeats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOKS", SECRET)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"https://127.0.0.1:{closed.getsockname()[1]}/x.git"
        session = kit(tmp_path / "project", f'[ci]\nremote = "{address}"\nwebhook_secret = "HOOKS"\n')
        pages = Pages(session, 0)
        pages.start()
        with httpx.Client(base_url=pages.address, timeout=60) as client:
            assert post(client, "github", push_of("1" * 40)).status_code == 503
        pages.stop()
