"""Every route of service and pages, with every kind of token: who may use it, and who is refused."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from starlette.routing import Route

from tests.access.kit import Tokens, create_site, serving_pages
from tests.serving.kit import MODEL, ROW, ServingKit, package, running, until
from tests.web.kit import Mill, turned
from tidemill.access.roles import ROLES
from tidemill.serving.routes import ROUTES

READ = {"viewer", "developer", "approver", "admin"}
DECIDE = {"approver", "admin"}
EVERYBODY = None
SERVICE: dict[tuple[str, str], set[str] | None] = {
    ("GET", "/health"): EVERYBODY,
    ("GET", "/ready"): EVERYBODY,
    ("GET", "/openapi.json"): EVERYBODY,
    ("GET", "/metrics"): READ,
    ("GET", "/predict/{model}"): READ | {"predict"},
    ("POST", "/predict/{model}"): {"predict", "admin"},
    ("POST", "/labels/{model}"): {"label", "admin"},
}
PAGES: dict[tuple[str, str], set[str] | None] = {
    **dict.fromkeys([("GET", "/login"), ("POST", "/login"), ("GET", "/style.css")], EVERYBODY),
    **dict.fromkeys([("GET", path) for path in ("/", "/charts.js", "/plotly.js")], READ),
    **dict.fromkeys([("GET", f"/{noun}") for noun in ("runs", "releases", "routes", "regimes", "policy")], READ),
    **dict.fromkeys([("GET", f"/{noun}") for noun in ("builds", "verdicts", "events", "jobs", "maturity")], READ),
    **dict.fromkeys([("GET", f"/{noun}/{{identifier}}") for noun in ("runs", "artifacts", "verdicts", "events")], READ),
    ("GET", "/releases/{name}/{version}"): READ,
    ("POST", "/decisions/{action}"): DECIDE,
    ("POST", "/logout"): {*ROLES},
}
_BODIES = {"/predict": {"rows": [ROW]}, "/labels": {"labels": []}}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Tokens]]:
    kit = ServingKit(tmp_path_factory.mktemp("service"))
    kit.route(kit.arm(1, package()))
    tokens = Tokens(kit.workspace)
    with running(kit) as (_, client):
        yield client, tokens


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Tokens, dict[str, str]]]:
    mill = Mill(tmp_path_factory.mktemp("pages"))
    paths = turned(mill)
    tokens = Tokens(mill.workspace)
    with serving_pages(create_site(mill)) as address, httpx.Client(base_url=address, timeout=30) as client:
        yield client, tokens, paths


def test_the_table_has_every_route_of_the_service() -> None:
    assert {(route.method, route.path) for route in ROUTES} == SERVICE.keys()


def test_the_table_has_every_route_of_the_pages(tmp_path: Path) -> None:
    routes = create_site(Mill(tmp_path)).routes
    assert all(isinstance(route, Route) for route in routes)
    found = {(method, route.path) for route in routes for method in route.methods - {"HEAD"}}
    assert found == PAGES.keys()


def test_webhooks_are_the_only_other_routes_and_have_their_own_secret() -> None:
    from tidemill.daemon import webhooks

    routes = webhooks.create_webhooks(None).routes  # type: ignore[arg-type]  # the routes need no session
    assert [route.path for route in routes if isinstance(route, Route)] == ["/hooks/{server:str}"]


def send(client: httpx.Client, method: str, path: str, token: str | None, scheme: str = "Bearer") -> httpx.Response:
    headers = [(b"accept", b"application/json")]
    if token is not None:
        headers.append((b"authorization", f"{scheme} {token}".strip().encode("latin-1")))
    body = next((body for start, body in _BODIES.items() if path.startswith(start)), {})
    return client.request(method, path, json=body if method == "POST" else None, headers=headers)


def expect(client: httpx.Client, tokens: Tokens, method: str, path: str, allowed: set[str] | None) -> None:
    """Send a request without a token, with each wrong token, and with one of each role."""
    wrong = {None: 401, tokens.forged: 401, tokens.expired: 401, tokens.revoked: 401, tokens.elsewhere: 403, "": 401}
    wrong |= {f"{tokens.by_role['admin']}x": 401, tokens.by_role["admin"].upper(): 401, "tm_": 401, "\xe9": 401}
    for token, status in wrong.items():
        reply = send(client, method, path, token)
        expected = reply.status_code not in (401, 403) if allowed is None else reply.status_code == status
        assert expected, (method, path, token, reply.status_code)
        if status == 401 and allowed is not None:
            assert reply.headers["www-authenticate"] == "Bearer"
            assert {"error", "cure"} == reply.json().keys()
    if allowed is not None:
        assert send(client, method, path, tokens.by_role["admin"], "Basic").status_code == 401
    for role, token in tokens.by_role.items():
        status = send(client, method, path, token).status_code
        may = allowed is None or role in allowed
        assert (status not in (401, 403, 500, 503)) if may else status == 403, (method, path, role, status)


@pytest.mark.parametrize(("method", "path"), SERVICE)
def test_a_route_of_the_service(service: tuple[httpx.Client, Tokens], method: str, path: str) -> None:
    client, tokens = service
    expect(client, tokens, method, path.format(model=MODEL), SERVICE[method, path])


# What the form of the login replies, test_login.py tests.
@pytest.mark.parametrize(("method", "path"), [route for route in PAGES if route != ("POST", "/login")])
def test_a_route_of_the_pages(pages: tuple[httpx.Client, Tokens, dict[str, str]], method: str, path: str) -> None:
    client, tokens, paths = pages
    kind = path.split("/")[1].removesuffix("s")
    filled = paths.get(kind, path) if "{" in path else path
    filled = filled.replace("{action}", "approve")
    assert "{" not in filled
    expect(client, tokens, method, filled, PAGES[method, path])


def test_unknown_paths_of_the_pages_need_a_token_too(pages: tuple[httpx.Client, Tokens, dict[str, str]]) -> None:
    client, tokens, _ = pages
    for path in ("/nothing", "/style.css/x", "/openapi.json", "/Runs", "/login/x"):
        assert send(client, "GET", path, None).status_code == 401, path
        assert send(client, "GET", path, tokens.by_role["viewer"]).status_code == 404, path
        assert send(client, "POST", path, tokens.by_role["viewer"]).status_code == 403, path


def test_a_refused_label_is_not_stored(service: tuple[httpx.Client, Tokens]) -> None:
    client, tokens = service
    label = {"labels": [{"id": "01a1f9f0-7c0a-71d4-8637-74d19981451f", "value": True}]}
    for token in (tokens.by_role["predict"], tokens.by_role["approver"], tokens.forged):
        reply = client.post(f"/labels/{MODEL}", json=label, headers={"authorization": f"Bearer {token}"})
        assert reply.status_code in (401, 403)
    assert "tidemill_labels_total{" not in send(client, "GET", "/metrics", tokens.by_role["viewer"]).text


def test_the_body_of_a_refused_request_is_not_read(service: tuple[httpx.Client, Tokens]) -> None:
    client, _ = service
    reply = client.post(f"/predict/{MODEL}", content=b"x" * 20_000_000)
    assert reply.status_code == 401
    assert reply.headers["connection"] == "close"


def test_a_running_service_learns_of_new_and_revoked_tokens_without_the_ledger(tmp_path: Path) -> None:
    kit = ServingKit(tmp_path)
    kit.route(kit.arm(1, package()))
    with running(kit) as (_, client):
        assert client.post(f"/predict/{MODEL}", json={"rows": [ROW]}).status_code == 200, "no token exists"
        tokens = Tokens(kit.workspace)
        until(lambda: client.post(f"/predict/{MODEL}", json={"rows": [ROW]}).status_code == 401)
        token = tokens.create("app", "predict")
        until(lambda: send(client, "POST", f"/predict/{MODEL}", token).status_code == 200)
        ledger = kit.workspace.ledger_file
        assert ledger is not None
        kit.workspace.ledger.close()
        ledger.rename(ledger.with_name("lost.db"))
        assert send(client, "POST", f"/predict/{MODEL}", token).status_code == 200
        ledger.with_name("lost.db").rename(ledger)
        tokens.revoke("app")
        until(lambda: send(client, "POST", f"/predict/{MODEL}", token).status_code == 401)
        for name in tokens.by_role:
            tokens.revoke(f"a-{name}")
        until(lambda: send(client, "POST", f"/predict/{MODEL}", tokens.by_role["admin"]).status_code == 401)
        assert client.post(f"/predict/{MODEL}", json={"rows": [ROW]}).status_code == 401, "still closed without tokens"
        (kit.workspace.state_folder / "routes" / "access.tokens").write_text("not JSON")
        assert client.post(f"/predict/{MODEL}", json={"rows": [ROW]}).status_code == 401
