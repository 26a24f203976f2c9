"""Tokens: what is stored, what expires, what is published, and who is the author of a command's decision."""

import os
import pwd
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.projects import listed, make_project, tidemill
from tidemill.access.actors import find_actor
from tidemill.access.control import AccessControl
from tidemill.access.roles import ROLES, expand_roles, parse_roles
from tidemill.access.tokens import create_token, digest_secret, publish_tokens, revoke_token
from tidemill.clock import VirtualClock
from tidemill.compose.backends import open_workspace
from tidemill.core.token import Role
from tidemill.errors import AccessDenied, InputError, NotFound
from tidemill.workspace.workspace import Workspace

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return open_workspace(tmp_path)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock(NOON)


def create(workspace: Workspace, clock: VirtualClock, name: str = "app", *roles: Role, days: float = 1) -> str:
    _, secret = create_token(
        workspace.ledger, clock, name=name, owner="Ada", roles=roles or ("predict",), by="root",
        lifetime=timedelta(days=days),
    )  # fmt: skip
    publish_tokens(workspace.ledger, [workspace.board])
    return secret


def test_the_secret_is_stored_nowhere(tmp_path: Path, workspace: Workspace, clock: VirtualClock) -> None:
    secret = create(workspace, clock)
    assert secret.startswith("tm_")
    assert len(secret) == 3 + 43
    token = workspace.ledger.tokens.find()[0]
    assert token.digest == digest_secret(secret)
    workspace.ledger.close()
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or secret.encode() not in file.read_bytes(), file
    assert len({create(workspace, clock, f"t{index}") for index in range(50)}) == 50


def test_a_token_expires_at_its_time(workspace: Workspace, clock: VirtualClock) -> None:
    header = f"Bearer {create(workspace, clock)}".encode()
    control = AccessControl(workspace.board, clock, "production")
    control.refresh()
    clock.advance(NOON + timedelta(days=1, microseconds=-1))
    assert control.admit(header, {"predict"}) is not None
    assert control.admit(header.replace(b"Bearer", b"bearer"), {"predict"}) is not None
    clock.advance(NOON + timedelta(days=1))
    with pytest.raises(AccessDenied, match="'app' expired at 2026-03-02 12:00 UTC"):
        control.admit(header, {"predict"})


def test_an_older_list_never_replaces_a_newer_one(workspace: Workspace, clock: VirtualClock) -> None:
    create(workspace, clock)
    before = publish_tokens(workspace.ledger, [])
    assert before is not None
    revoke_token(workspace.ledger, clock, "app", by="root", reason="a test")
    publish_tokens(workspace.ledger, [workspace.board])
    workspace.board.publish_tokens(before)  # a process that read the ledger before the revocation
    published = workspace.board.tokens()
    assert published is not None
    assert published.tokens[0].revoked is not None


def test_access_stays_closed_if_the_list_is_broken_or_gone(workspace: Workspace, clock: VirtualClock) -> None:
    secret = create(workspace, clock)
    file = workspace.state_folder / "routes" / "access.tokens"
    control = AccessControl(workspace.board, clock, "production")
    control.refresh()
    content = file.read_bytes()
    file.unlink()
    with pytest.raises(Exception, match="was published and is gone"):
        control.refresh()
    assert not control.is_open
    assert control.admit(f"Bearer {secret}".encode(), {"predict"}) is not None
    file.write_text("{")
    fresh = AccessControl(workspace.board, clock, "production")
    with pytest.raises(Exception, match="truncated"):
        fresh.refresh()
    assert not fresh.is_open
    with pytest.raises(AccessDenied):
        fresh.admit(f"Bearer {secret}".encode(), {"predict"})
    file.write_bytes(content)
    fresh.refresh()
    assert fresh.admit(f"Bearer {secret}".encode(), {"predict"}) is not None


def test_a_temporary_secret_works_until_it_is_forgotten(workspace: Workspace, clock: VirtualClock) -> None:
    control = AccessControl(workspace.board, clock, "production", required=True)
    control.admit_secret("tm_probe", "deployment", ("predict",))
    create(workspace, clock)
    control.refresh()
    assert control.admit(b"Bearer tm_probe", {"predict"}) is not None
    with pytest.raises(AccessDenied, match="role predict"):
        control.admit(b"Bearer tm_probe", {"label"})
    control.forget_secrets()
    with pytest.raises(AccessDenied, match="not known"):
        control.admit(b"Bearer tm_probe", {"predict"})


def test_roles_include_only_what_the_table_says() -> None:
    included = {role: expand_roles([role]) - {role} for role in ROLES}
    assert included == {
        "viewer": set(),
        "predict": set(),
        "label": set(),
        "push": set(),
        "developer": {"viewer", "push"},
        "approver": {"viewer"},
        "admin": set(ROLES) - {"admin"},
    }
    assert parse_roles(["admin", "viewer", "viewer"]) == ("viewer", "admin")
    for wrong in ([], ["root"], ["viewer", "Admin"]):
        with pytest.raises(InputError) as refused:
            parse_roles(wrong)
        assert "viewer, predict" in refused.value.cure


def test_two_tokens_cannot_have_one_name(workspace: Workspace, clock: VirtualClock) -> None:
    def attempt(_: int) -> bool:
        try:
            create_token(workspace.ledger, clock, name="app", owner="Ada", roles=("viewer",), by="root")
        except InputError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(attempt, range(8))) == 1
    with pytest.raises(InputError, match="there is a token 'app' already"):
        create(workspace, clock)
    assert [entry.action for entry in workspace.ledger.audit.find()] == ["created"]


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"name": ""}, "cannot be the name"),
        ({"name": "a b"}, "cannot be the name"),
        ({"owner": " "}, "cannot be the owner"),
        ({"owner": "Ada\x1b[31m"}, "cannot be the owner"),
        ({"lifetime": timedelta(0)}, "expire at once"),
        ({"lifetime": timedelta(days=999_999_999)}, "too long"),
    ],
)
def test_a_wrong_token_is_an_error(
    workspace: Workspace, clock: VirtualClock, changes: dict[str, object], text: str
) -> None:
    settings: dict[str, object] = {"name": "app", "owner": "Ada", "roles": ("viewer",), "by": "root"}
    with pytest.raises(InputError, match=text) as refused:
        create_token(workspace.ledger, clock, **(settings | changes))  # type: ignore[arg-type]
    assert refused.value.cure
    assert workspace.ledger.tokens.find() == []


def test_the_author_is_the_owner_of_the_token_or_the_real_user(workspace: Workspace, clock: VirtualClock) -> None:
    secret = create(workspace, clock, "ada", "approver")
    actor = find_actor(workspace.ledger, clock, "production", secret, {"approver"})
    assert (actor.name, actor.detail) == ("Ada", {"token": "ada"})
    assert find_actor(workspace.ledger, clock, "production", "").name == pwd.getpwuid(os.getuid()).pw_name
    with pytest.raises(AccessDenied, match="role approver, which does not allow this"):
        find_actor(workspace.ledger, clock, "production", secret, {"admin"})
    with pytest.raises(AccessDenied, match="not known"):
        find_actor(workspace.ledger, clock, "production", secret + "x")
    revoke_token(workspace.ledger, clock, "ada", by="root", reason="left")
    with pytest.raises(AccessDenied, match="revoked"):
        find_actor(workspace.ledger, clock, "production", secret)
    with pytest.raises(NotFound, match="no token 'nobody'"):
        revoke_token(workspace.ledger, clock, "nobody", by="root", reason="a test")
    created, revoked = workspace.ledger.audit.find()
    assert (created.subject, created.detail["roles"], revoked.action, revoked.reason) == (
        "token/ada", ["approver"], "revoked", "left",
    )  # fmt: skip


def test_the_commands(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    make_project(folder)
    made = listed(folder, "tokens", "create", "robot", "--role", "predict", "--role", "label", "--owner", "robot")
    assert made["record"]["roles"] == ["predict", "label"]
    admin = tidemill(folder, "tokens", "create", "boss", "--role", "admin", "--expires", "never").stdout.strip()
    ada = tidemill(folder, "tokens", "create", "ada", "--role", "approver", "--owner", "ada").stdout.strip()
    assert made["token"] not in tidemill(folder, "tokens", "list").stdout
    records = {record["name"]: record for record in listed(folder, "tokens", "list")}
    assert records["boss"]["expires"] is None
    assert records["robot"]["by"] == pwd.getpwuid(os.getuid()).pw_name
    tidemill(folder, "triggers", "pause", "watch", "--reason=test", LOGNAME="mallory", USER="mallory")
    assert listed(folder, "audit", "list")[0]["actor"] == pwd.getpwuid(os.getuid()).pw_name
    refused = tidemill(folder, "tokens", "revoke", "robot", "--reason=test", code=1, TIDEMILL_TOKEN=ada)
    assert "use a token with the role admin" in refused.stderr
    tidemill(folder, "tokens", "revoke", "robot", "--reason", "replaced", TIDEMILL_TOKEN=admin)
    entry = listed(folder, "audit", "list")[0]
    assert (entry["action"], entry["subject"], entry["reason"]) == ("revoked", "token/robot", "replaced")
    tidemill(folder, "triggers", "resume", "watch", "--reason=test", TIDEMILL_TOKEN=ada)
    assert listed(folder, "audit", "list")[0]["actor"] == "ada"
    assert (
        "not known"
        in tidemill(folder, "triggers", "pause", "watch", "--reason=test", code=1, TIDEMILL_TOKEN="tm_x").stderr
    )
    assert (
        "not a duration"
        in tidemill(folder, "tokens", "create", "x", "--role", "viewer", "--expires", "soon", code=2).stderr
    )
