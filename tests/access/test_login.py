"""The login of the pages: cookies, forms that only these pages can send, and decisions with their author."""

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.access.kit import CLOCK, Tokens, create_site, serving_pages
from tests.serving.kit import until
from tests.web.kit import Mill, turned
from tidemill.clock import VirtualClock
from tidemill.core.policy import ModelPolicy
from tidemill.project.configuration import read_policy
from tidemill.web.sessions import Sessions

HTML = {"accept": "text/html"}


@pytest.fixture
def mill(tmp_path: Path) -> Mill:
    mill = Mill(tmp_path)
    turned(mill)
    return mill


@pytest.fixture
def tokens(mill: Mill) -> Tokens:
    return Tokens(mill.workspace)


@pytest.fixture
def address(mill: Mill, policy: ModelPolicy) -> Iterator[str]:
    with serving_pages(create_site(mill, policy)) as address:
        yield address


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> ModelPolicy:
    from tests.projects import make_project

    folder = tmp_path_factory.mktemp("policy") / "shop"
    make_project(folder)
    return next(iter(read_policy(folder / "tidemill.toml").models.values()))


def log_in(address: str, token: str, **fields: str) -> tuple[httpx.Client, httpx.Response]:
    client = httpx.Client(base_url=address, timeout=30, headers=HTML)
    origin = {"origin": address, "sec-fetch-site": "same-origin"}
    return client, client.post("/login", data={"token": token, **fields}, headers=origin)


def read_csrf(client: httpx.Client, path: str = "/") -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', client.get(path).text)
    assert found
    return html.unescape(found[1])


def test_a_person_is_sent_to_the_login_and_back(address: str, tokens: Tokens) -> None:
    with httpx.Client(base_url=address, headers=HTML, timeout=60) as client:
        reply = client.get("/runs?limit=5")
        assert (reply.status_code, reply.headers["location"]) == (303, "/login?next=%2Fruns%3Flimit%3D5")
        page = client.get(reply.headers["location"])
        assert 'type="password"' in page.text
        assert "flights" not in page.text, "the login does not reveal the project"
        assert 'value="/runs?limit=5"' in page.text
    client, reply = log_in(address, f" {tokens.by_role['viewer']}\n", next="/runs?limit=5")
    assert (reply.status_code, reply.headers["location"]) == (303, "/runs?limit=5")
    assert client.get("/runs").status_code == 200
    assert "Log out" in client.get("/runs").text


@pytest.mark.parametrize("target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:1", ""])
def test_the_login_leads_only_to_these_pages(address: str, tokens: Tokens, target: str) -> None:
    _, reply = log_in(address, tokens.by_role["viewer"], next=target)
    assert reply.headers["location"] == "/"


def test_a_wrong_token_gets_no_session(address: str, tokens: Tokens) -> None:
    wrong = {tokens.forged: "not known", tokens.expired: "expired", tokens.revoked: "revoked", "": "not known"}
    for token, text in wrong.items():
        client, reply = log_in(address, token)
        assert (reply.status_code, "set-cookie" in reply.headers) == (401, False)
        assert text in reply.text
        assert client.get("/runs").status_code == 303
    for token in (tokens.elsewhere, tokens.by_role["predict"], tokens.by_role["label"], tokens.by_role["push"]):
        assert log_in(address, token)[1].status_code == 403


def test_the_cookie_is_only_for_these_pages(mill: Mill, tokens: Tokens, address: str) -> None:
    cookie = log_in(address, tokens.by_role["viewer"])[1].headers["set-cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; ")[1:])
    assert "Secure" not in cookie, "a browser may refuse it on http"
    assert tokens.by_role["viewer"] not in cookie
    with serving_pages(create_site(mill, secure=True)) as secure:
        cookie = log_in(secure, tokens.by_role["viewer"])[1].headers["set-cookie"]
        assert cookie.startswith("__Host-")
        assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} == set(cookie.split("; ")[1:])


def test_a_session_ends_with_its_token(address: str, tokens: Tokens) -> None:
    token = tokens.create("short", "viewer")
    client, _ = log_in(address, token)
    assert client.get("/runs").status_code == 200
    tokens.revoke("short")
    until(lambda: client.get("/runs").status_code == 303)
    brief = tokens.create("brief", "viewer", days=2 / 86_400)
    until(lambda: log_in(address, brief)[1].status_code == 401)  # it expires within two seconds


def test_a_session_ends_after_half_a_day_and_the_oldest_when_there_are_too_many() -> None:
    class Later(VirtualClock):
        seconds = 0.0

        def monotonic(self) -> float:
            return self.seconds

    clock = Later(CLOCK.now())
    sessions = Sessions(clock, secure=False)
    first, *others = [sessions.start("d" * 64).split(";")[0] for _ in range(1_001)]
    assert sessions.find(first) is None
    assert sessions.find(others[0]) is not None
    clock.seconds = 12 * 3600
    assert sessions.find(others[1]) is None


def test_logout_ends_the_session_for_every_copy_of_the_cookie(address: str, tokens: Tokens) -> None:
    client, _ = log_in(address, tokens.by_role["viewer"])
    copy = dict(client.cookies)
    assert client.post("/logout").status_code == 403, "another page could log the person out"
    reply = client.post("/logout", data={"csrf": read_csrf(client)})
    assert (reply.status_code, reply.headers["location"]) == (303, "/login")
    assert "Max-Age=0" in reply.headers["set-cookie"]
    with httpx.Client(base_url=address, headers=HTML, cookies=copy, timeout=60) as stolen:
        assert stolen.get("/runs").status_code == 303


def wait_for_approval(mill: Mill) -> str:
    release = mill.release(3)
    mill.event("approval.needed", release.label, "its policy asks for an approval")
    return release.label


def decide(client: httpx.Client, action: str, **changes: Any) -> httpx.Response:
    headers = changes.pop("headers", {})
    fields = {"csrf": read_csrf(client), "subject": "flights/3", "reason": "looked at it"} | changes
    return client.post(f"/decisions/{action}", data=fields, headers=headers)


def test_an_approver_approves_on_the_page_of_the_release(mill: Mill, address: str, tokens: Tokens) -> None:
    label = wait_for_approval(mill)
    viewer, _ = log_in(address, tokens.by_role["viewer"])
    assert "/decisions/approve" not in viewer.get(f"/releases/{label}").text
    ada = tokens.create("ada", "approver", owner="Ada Lovelace")
    client, _ = log_in(address, ada)
    assert 'action="/decisions/approve"' in client.get(f"/releases/{label}").text
    reply = decide(client, "approve")
    assert (reply.status_code, reply.headers["location"]) == (303, "/releases/flights/3"), reply.text
    (entry,) = mill.books.audit.find(action="approved")
    assert (entry.actor, entry.subject, entry.reason) == ("Ada Lovelace", "flights/3", "looked at it")
    route = mill.board.routes()["flights"]
    assert entry.detail == {"token": "ada", "by": "page", "route": route.id, "change": route.change}
    assert route.by == "Ada Lovelace"
    assert "flights/3" in [arm.release for arm in route.arms]
    assert "/decisions/approve" not in client.get(f"/releases/{label}").text


def test_an_approver_rolls_back_on_the_page_of_the_champion(mill: Mill, address: str, tokens: Tokens) -> None:
    client, _ = log_in(address, tokens.by_role["approver"])
    assert 'action="/decisions/roll-back"' in client.get("/releases/flights/2").text
    assert 'action="/decisions/roll-back"' not in client.get("/releases/flights/1").text
    reply = decide(client, "roll-back", subject="flights", reason="wrong prices")
    assert reply.status_code == 303, reply.text
    champion = mill.board.routes()["flights"].arm("champion")
    assert champion is not None
    assert champion.release == "flights/1"
    (entry,) = mill.books.audit.find(action="rolled back to")
    assert (entry.subject, entry.reason) == ("flights/1", "wrong prices")


def test_a_script_decides_with_a_bearer_token(mill: Mill, address: str, tokens: Tokens) -> None:
    wait_for_approval(mill)
    headers = {"authorization": f"Bearer {tokens.by_role['approver']}"}
    body = {"subject": "flights/3", "reason": "checked"}
    reply = httpx.post(f"{address}/decisions/approve", json=body, headers=headers, timeout=60)
    assert reply.status_code == 200, reply.text
    assert reply.json()["by"] == "Ada"
    again = httpx.post(f"{address}/decisions/approve", json=body, headers=headers, timeout=60)
    assert (again.status_code, "is in production already" in again.json()["error"]) == (400, True)


def test_a_token_of_one_environment_decides_nothing_in_another(mill: Mill, address: str, tokens: Tokens) -> None:
    here = tokens.create("here", "approver", environment="production")
    headers = {"authorization": f"Bearer {here}", "accept": "application/json"}
    for action in ("approve-build", "promote-build"):
        body = {"subject": "1 → test", "reason": "checked"}
        reply = httpx.post(f"{address}/decisions/{action}", json=body, headers=headers, timeout=60)
        assert (reply.status_code, "not accepted in the environment 'test'" in reply.text) == (403, True)
        reply = httpx.post(
            f"{address}/decisions/{action}", json=body | {"subject": "1 → production"}, headers=headers, timeout=60
        )
        assert reply.status_code == 404, "the token is accepted, and there is no build"


@pytest.mark.parametrize(
    ("changes", "status", "text"),
    [
        ({"csrf": ""}, 403, "not sent by these pages"),
        ({"csrf": "é"}, 403, "not sent by these pages"),
        ({"headers": {"origin": "https://evil.example"}}, 403, "another origin"),
        ({"headers": {"origin": "null"}}, 403, "another origin"),
        ({"headers": {"sec-fetch-site": "cross-site"}}, 403, "another origin"),
        ({"headers": {"sec-fetch-site": "same-site"}}, 403, "another origin"),
        ({"reason": " "}, 400, "has no reason"),
        ({"subject": ""}, 400, "has no subject"),
        ({"subject": "flights/77"}, 404, "does not exist"),
        ({"subject": "flights/1"}, 400, "does not wait for an approval"),
        ({"reason": "x" * 70_000}, 400, "larger than"),
    ],
)
def test_a_wrong_form_changes_nothing(
    mill: Mill, address: str, tokens: Tokens, changes: dict[str, Any], status: int, text: str
) -> None:
    wait_for_approval(mill)
    client, _ = log_in(address, tokens.by_role["approver"])
    before = mill.board.routes()
    reply = decide(client, "approve", **changes)
    assert (reply.status_code, text in html.unescape(reply.text)) == (status, True), reply.text
    assert mill.board.routes() == before
    assert mill.books.audit.find(action="approved") == []


def test_another_session_cannot_use_the_value_of_a_form(mill: Mill, address: str, tokens: Tokens) -> None:
    wait_for_approval(mill)
    first, _ = log_in(address, tokens.by_role["approver"])
    second, _ = log_in(address, tokens.by_role["approver"])
    assert decide(first, "approve", csrf=read_csrf(second)).status_code == 403


def test_the_login_refuses_forms_of_other_pages(address: str, tokens: Tokens) -> None:
    with httpx.Client(base_url=address, headers=HTML, timeout=60) as client:
        headers = {"origin": "https://evil.example"}
        reply = client.post("/login", data={"token": tokens.by_role["viewer"]}, headers=headers)
        assert (reply.status_code, "set-cookie" in reply.headers) == (403, False)


def test_unknown_decisions_and_broken_bodies_are_errors(address: str, tokens: Tokens) -> None:
    headers = {"authorization": f"Bearer {tokens.by_role['approver']}", "content-type": "application/json"}
    for path, body, status in (
        ("retire", b"{}", 404),
        ("approve", b"{", 400),
        ("approve", b'{"subject": 1}', 400),
        ("approve", b"[]", 400),
    ):
        assert (
            httpx.post(f"{address}/decisions/{path}", content=body, headers=headers, timeout=60).status_code == status
        )


def test_pages_can_be_read_and_not_changed_before_the_first_token(mill: Mill) -> None:
    with serving_pages(create_site(mill)) as address, httpx.Client(base_url=address, timeout=60) as client:
        assert client.get("/releases/flights/2").status_code == 200
        assert client.get("/login").headers["location"] == "/"
        reply = client.post("/decisions/roll-back", json={"subject": "flights", "reason": "why not"})
        assert (reply.status_code, "a decision needs a token" in reply.text) == (401, True)
