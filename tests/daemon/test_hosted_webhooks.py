"""Webhooks as GitHub, GitLab and Gitea send them, against a bare repository that changes as the payloads say."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.daemon.kit import kit
from tests.daemon.test_webhooks import SECRET, ZEROS, git, pushes
from tidemill.daemon.pages import Pages
from tidemill.flow.session import Session

SERVERS = ("github", "gitlab", "gitea")


class Hosted:
    """A bare repository of a server, the clone of a developer, and the pages that the server calls."""

    def __init__(self, folder: Path, session: Session, client: httpx.Client) -> None:
        self.bare, self.work, self.session, self.client = folder / "bare.git", folder / "work", session, client

    def commit(self, text: str, branch: str = "main", *options: str) -> tuple[str, str]:
        """Push a commit; return the tip of the branch before and after."""
        before = self.tip(branch)
        git(self.work, "checkout", "-q", "-B", branch)
        git(self.work, "commit", "-q", "--allow-empty", "-m", text)
        git(self.work, "push", "-q", *options, "origin", branch)
        return before, self.tip(branch)

    def tip(self, branch: str) -> str:
        found = git(self.bare, "for-each-ref", "--format=%(objectname)", f"refs/heads/{branch}")
        return found or ZEROS

    def push(self, server: str, reference: str, before: str, after: str, **changes: Any) -> dict[str, Any]:
        """A payload of a push, in the form of the server's documentation; the texts are of no importance."""
        author = {"name": "Bob Bøe", "email": "bob@example.com"}
        commits = [] if after == ZEROS else [{"id": after, "message": "Größe\n\n…", "author": author, "added": ["a"]}]
        payloads: dict[str, dict[str, Any]] = {
            "github": {
                "repository": {"id": 186_853_002, "full_name": "team/shop", "fork": False, "default_branch": "main"},
                "pusher": {"name": "bob", "email": "bob@example.com"},
                "sender": {"login": "bob", "id": 21_031_067, "type": "User"},
                "created": before == ZEROS,
                "deleted": after == ZEROS,
                "forced": False,
                "base_ref": None,
                "compare": "https://github.example/team/shop/compare/1...2",
                "head_commit": commits[0] if commits else None,
            },
            "gitlab": {
                "object_kind": "push",
                "event_name": "push",
                "checkout_sha": None if after == ZEROS else after,
                "ref_protected": True,
                "user_id": 4,
                "user_name": "Bob Bøe",
                "user_username": "bob",
                "project_id": 15,
                "project": {"id": 15, "path_with_namespace": "team/shop", "default_branch": "main"},
                "total_commits_count": len(commits),
            },
            "gitea": {
                "compare_url": "",
                "total_commits": len(commits),
                "repository": {"id": 140, "full_name": "team/shop", "owner": {"login": "team"}},
                "pusher": {"id": 1, "login": "bob", "full_name": "Bob Bøe", "username": "bob"},
                "sender": {"id": 1, "login": "bob", "full_name": "Bob Bøe", "username": "bob"},
            },
        }
        return payloads[server] | {"ref": reference, "before": before, "after": after, "commits": commits} | changes

    def send(self, server: str, event: str, payload: Any, *, form: bool = False, **headers: str) -> httpx.Response:
        """Sign and send a payload as the server does."""
        text = payload if isinstance(payload, bytes) else json.dumps(payload, ensure_ascii=False).encode()
        body = urlencode({"payload": text}).encode() if form else text
        signed = text if form and server == "gitea" else body
        signature = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
        kinds = {"push": "Push Hook", "tag": "Tag Push Hook", "pull_request": "Merge Request Hook"}
        sent = {
            "github": {"X-GitHub-Event": event, "X-Hub-Signature-256": f"sha256={signature}", "X-GitHub-Delivery": "7"},
            "gitea": {"X-Gitea-Event": event, "X-Gitea-Signature": signature, "X-GitHub-Event": event},
            "gitlab": {"X-Gitlab-Event": kinds.get(event, event), "X-Gitlab-Token": SECRET},
        }[server]
        sent["content-type"] = "application/x-www-form-urlencoded" if form else "application/json"
        return self.client.post(f"/hooks/{server}", content=body, headers=sent | headers)

    def state(self, server: str, event: str, payload: Any, **options: Any) -> str:
        answered = self.send(server, event, payload, **options)
        assert answered.status_code in (200, 202), answered.text
        return str(answered.json()["state"])


@pytest.fixture
def hosted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hosted]:
    monkeypatch.setenv("HOOKS", SECRET)
    bare = tmp_path / "bare.git"
    settings = f'[ci]\nremote = "{bare}"\nwebhook_secret = "HOOKS"\nbranches = ["main", "dev/*"]\n'
    session = kit(tmp_path / "project", settings)
    (tmp_path / "work").mkdir()
    git(tmp_path, "init", "-q", "--bare", "-b", "main", "bare.git")
    git(tmp_path, "clone", "-q", "bare.git", "work")
    pages = Pages(session, 0)
    pages.start()
    with httpx.Client(base_url=pages.address, timeout=60) as client:
        yield Hosted(tmp_path, session, client)
    pages.stop()


@pytest.mark.parametrize("form", [False, True], ids=["json", "form"])
@pytest.mark.parametrize("server", SERVERS)
def test_the_life_of_a_branch(hosted: Hosted, server: str, form: bool) -> None:
    """First push, next push, force push, deletion, and the branch again: each commit is recorded once."""
    if form and server == "gitlab":
        form = False  # it sends JSON only
    first = hosted.push(server, "refs/heads/dev/größe", *hosted.commit("first", "dev/größe"))
    second = hosted.push(server, "refs/heads/dev/größe", *hosted.commit("second", "dev/größe"))
    assert hosted.state(server, "push", first, form=form) == "new", "it is late: the tip is the second commit already"
    assert hosted.state(server, "push", second, form=form) == "known"
    git(hosted.work, "reset", "-q", "--hard", "HEAD~1")
    forced = hosted.push(server, "refs/heads/dev/größe", *hosted.commit("other", "dev/größe", "-f"), forced=True)
    assert hosted.state(server, "push", forced, form=form) == "new"
    git(hosted.work, "push", "-q", "origin", ":dev/größe")
    deleted = hosted.push(server, "refs/heads/dev/größe", forced["after"], ZEROS)
    assert [hosted.state(server, "push", deleted, form=form) for _ in range(2)] == ["deleted", "deleted"]
    assert hosted.state(server, "push", forced, form=form) == "deleted", "a late event of a branch that is gone"
    again = hosted.push(server, "refs/heads/dev/größe", ZEROS, hosted.commit("again", "dev/größe")[1])
    assert hosted.state(server, "push", deleted, form=form) == "ignored", "the branch exists again"
    assert hosted.state(server, "push", again, form=form) == "new"
    recorded = [(commit, pusher) for _, commit, pusher in pushes(hosted.session)]
    assert recorded == [(second["after"], ""), (forced["after"], "bob"), (again["after"], "bob")]
    assert pushes(hosted.session, "branch.deleted") == [("dev/größe", forced["after"], "bob")]


@pytest.mark.parametrize("server", SERVERS)
def test_what_builds_nothing(hosted: Hosted, server: str) -> None:
    tip = hosted.commit("first")[1]
    tag = hosted.push(server, "refs/tags/v1", ZEROS, tip, object_kind="tag_push", event_name="tag_push")
    assert hosted.state(server, "push", tag) == "ignored"
    assert hosted.state(server, "tag", tag) == "ignored"
    other = hosted.push(server, "refs/heads/draft", *hosted.commit("draft", "draft"))
    assert hosted.state(server, "push", other) == "not watched"
    ping = {"zen": "Design for failure.", "hook_id": 30, "hook": {"type": "Repository", "events": ["push"]}}
    for event in ("ping", "issues", "create", "Pipeline Hook", "System Hook", "repository", "fork", "", "push2"):
        assert hosted.state(server, event, ping) == "ignored"
    assert pushes(hosted.session) == []


def request_of(server: str, *, merged: bool, fork: bool, commit: str) -> dict[str, Any]:
    """A payload of a pull request or a merge request."""
    if server == "gitlab":
        attributes = {
            "iid": 1,
            "state": "merged" if merged else "opened",
            "action": "merge" if merged else "open",
            "source_project_id": 16 if fork else 15,
            "target_project_id": 15,
            "source_branch": "feature",
            "target_branch": "main",
            "merge_commit_sha": commit if merged else None,
            "last_commit": {"id": commit},
            "source": {"path_with_namespace": "eve/shop" if fork else "team/shop"},
        }
        return {"object_kind": "merge_request", "user": {"username": "bob"}, "object_attributes": attributes}
    ours, theirs = {"full_name": "team/shop"}, {"full_name": "eve/shop"}
    request = {
        "number": 1,
        "state": "closed" if merged else "open",
        "merged": merged,
        "merge_commit_sha": commit if merged else None,
        "base": {"ref": "main", "sha": ZEROS, "repo": ours},
        "head": {"ref": "feature", "sha": commit, "repo": theirs if fork else ours},
    }
    action = "closed" if merged else "opened"
    return {"action": action, "number": 1, "pull_request": request, "sender": {"login": "bob"}}


@pytest.mark.parametrize("server", SERVERS)
def test_requests_to_merge(hosted: Hosted, server: str) -> None:
    """The request of a fork is recorded, one of a branch waits for its push, a merged one changes its target."""
    tip = hosted.commit("merged")[1]
    for fork, merged, state in ((True, False, "fork"), (False, False, "ignored"), (False, True, "new")):
        payload = request_of(server, merged=merged, fork=fork, commit=tip)
        assert hosted.state(server, "pull_request", payload) == state
    assert hosted.state(server, "pull_request", request_of(server, merged=True, fork=True, commit=tip)) == "known"
    gone = request_of(server, merged=False, fork=True, commit=tip)
    if server != "gitlab":
        gone["pull_request"]["head"]["repo"] = None  # the fork was deleted
        assert hosted.state(server, "pull_request", gone) == "fork"
    assert [commit for _, commit, _ in pushes(hosted.session)] == [tip]


@pytest.mark.parametrize("server", SERVERS)
def test_bodies_that_are_no_event(hosted: Hosted, server: str) -> None:
    tip = hosted.commit("first")[1]
    valid = hosted.push(server, "refs/heads/main", ZEROS, tip)
    text = json.dumps(valid, ensure_ascii=False)
    wrong = {
        "empty": b"",
        "null": b"null",
        "a list": b"[]",
        "a text": b'"push"',
        "nested": b"[" * 200_000,
        "UTF-16": text.encode("utf-16"),
        "Latin-1": text.encode("latin-1", "replace").replace(b"Gr?", b"Gr\xf6"),
        "cut": text.encode()[:-20],
        "numbers": json.dumps(valid | {"ref": 5}).encode(),
        "no ref": json.dumps({"after": tip}).encode(),
    }
    for name, body in wrong.items():
        answered = hosted.send(server, "push", body)
        assert answered.status_code == 400, (name, answered.text)
        assert "the payload is no event" in answered.json()["error"]
    for reference in ("refs/heads/", "refs/heads/--upload-pack=x", "refs/heads/a b", "refs/heads/../x"):
        assert hosted.send(server, "push", valid | {"ref": reference}).status_code == 400
    if server == "github":  # a form that is none: what is signed is the body
        for body in (b"\xff\xfe", b"payload", b"payload=%ff", b"&" * 100_000):
            signature = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
            headers = {"X-GitHub-Event": "push", "X-Hub-Signature-256": f"sha256={signature}"}
            headers["content-type"] = "application/x-www-form-urlencoded"
            assert hosted.client.post("/hooks/github", content=body, headers=headers).status_code == 400
    assert pushes(hosted.session) == []
    for content in ("text/plain", "application/json; charset=utf-8", ""):
        assert hosted.state(server, "push", valid, **{"content-type": content}) in ("new", "known")


@pytest.mark.parametrize("server", SERVERS)
def test_a_push_of_many_commits_is_large_and_is_recorded(hosted: Hosted, server: str) -> None:
    tip = hosted.commit("many")[1]
    listed = [{"id": tip, "message": "x" * 4000, "added": ["file"] * 100}] * 2048
    payload = hosted.push(server, "refs/heads/main", ZEROS, tip, commits=listed)
    assert len(json.dumps(payload)) > 8_000_000
    assert hosted.state(server, "push", payload) == "new"


def test_what_a_person_is_called_cannot_change_a_terminal(hosted: Hosted) -> None:
    tip = hosted.commit("first")[1]
    pusher = {"name": "bob\x1b[2J\r\n\u202eada" + "x" * 1000}
    assert hosted.state("github", "push", hosted.push("github", "refs/heads/main", ZEROS, tip, pusher=pusher)) == "new"
    ((_, _, name),) = pushes(hosted.session)
    assert name.isprintable()
    assert len(name) == 200


def test_a_signature_over_other_bytes_is_refused(hosted: Hosted) -> None:
    tip = hosted.commit("first")[1]
    payload = hosted.push("github", "refs/heads/main", ZEROS, tip)
    old = hmac.new(SECRET.encode(), json.dumps(payload).encode(), hashlib.sha1).hexdigest()
    for signature in ("", "sha256=", f"sha1={old}", "sha256=" + "0" * 64, "sha256=é"):
        headers = [(b"X-GitHub-Event", b"push"), (b"X-Hub-Signature-256", signature.encode("latin-1"))]
        refused = hosted.client.post("/hooks/github", content=json.dumps(payload), headers=headers)
        assert refused.status_code == 403
    assert pushes(hosted.session) == []
