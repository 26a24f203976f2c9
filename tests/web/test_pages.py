"""The web pages: what they show, and what they refuse."""

from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from starlette.testclient import TestClient

from tests.web import kit
from tidemill.core.route import Arm
from tidemill.evidence.promises import PolicyStatus
from tidemill.ledger.book import SqlBook


@pytest.fixture
def mill(tmp_path: Path) -> kit.Mill:
    """An empty workspace."""
    return kit.Mill(tmp_path)


def client(mill: kit.Mill, host: str = "") -> TestClient:
    app = kit.create_pages(mill, hosts=[host] if host else ())
    return TestClient(app, base_url="http://localhost:8000")


def test_every_page_is_html_and_json(mill: kit.Mill) -> None:
    browser = client(mill)
    for address in kit.addresses(kit.turned(mill)):
        reply = browser.get(address)
        assert reply.status_code == 200, address
        assert reply.headers["content-type"].startswith("application/json" if "format" in address else "text/html")
        assert "default-src 'none'" in reply.headers["content-security-policy"]


def test_pages_of_an_empty_ledger_name_the_first_command(mill: kit.Mill) -> None:
    browser = client(mill)
    assert "tidemill run training" in browser.get("/").text
    for noun in ("runs", "releases", "routes", "regimes", "verdicts", "events", "jobs"):
        assert browser.get(f"/{noun}").status_code == 200


def test_the_overview_shows_the_release_in_production_and_its_reason(mill: kit.Mill) -> None:
    kit.turned(mill, "not worse: live loss 0.45 against 0.46")
    page = client(mill).get("/").text
    assert "flights/2" in page
    assert "not worse: live loss 0.45 against 0.46" in page
    assert "gate: pass" not in page, "that verdict was about flights/1"


@pytest.mark.parametrize("kind", ["approval.needed", "model.frozen"])
def test_an_approval_is_listed_until_a_person_decides(mill: kit.Mill, kind: str) -> None:
    release = mill.release()
    mill.event(kind, release.label, "its policy asks for an approval")
    browser = client(mill)
    assert "tidemill models approve flights/1" in browser.get("/").text
    mill.decide(release)
    assert "tidemill models approve" not in browser.get("/").text


def test_an_approval_is_not_listed_for_a_release_in_production(mill: kit.Mill) -> None:
    mill.release(11)
    release = mill.release(1)
    mill.event("approval.needed", release.label, "its policy asks for an approval")
    browser = client(mill)
    mill.route(mill.books.releases.find(version=11)[0])
    assert "models approve flights/1" in browser.get("/").text, "flights/11 is not flights/1"
    mill.route(release)
    assert "models approve" not in browser.get("/").text


def test_a_failed_pipeline_is_listed_until_a_run_succeeds(mill: kit.Mill) -> None:
    mill.run("ingestion", "failed", "the disk is full")
    browser = client(mill)
    assert "the disk is full" in browser.get("/").text
    mill.run("ingestion")
    assert browser.get("/?format=json").json()["needs"] == []


def test_a_board_behind_the_ledger_is_reported(mill: kit.Mill) -> None:
    kit.turned(mill)
    (mill.workspace.root / "environments/production/routes/flights.json").unlink()
    mill.board.publish(mill.books.routes.find(model="flights", limit=1)[0])
    assert "the newest version of the route is 2, but version 1 is in production" in client(mill).get("/").text


def test_lists_are_complete_across_pages(mill: kit.Mill) -> None:
    run_ids = [mill.run().id for _ in range(25)]
    browser, found, before = client(mill), [], ""
    for _ in range(3):
        reply = browser.get("/runs", params={"format": "json", "limit": "10", "before": before}).json()
        found += [run["id"] for run in reply["runs"]]
        before = reply["older"]
    assert found == run_ids[::-1]
    assert before == ""


def test_verdicts_of_other_environments_are_excluded_and_pages_are_full(mill: kit.Mill) -> None:
    ours = []
    for _ in range(8):
        ours.append(mill.verdict().id)
        for _ in range(5):
            mill.verdict(environment="test")
    browser = client(mill)
    first = browser.get("/verdicts?format=json&limit=5").json()
    rest = browser.get(f"/verdicts?format=json&limit=5&before={first['older']}").json()
    assert [verdict["id"] for verdict in first["verdicts"] + rest["verdicts"]] == ours[::-1]
    assert rest["older"] == ""


def test_verdicts_are_filtered_and_filters_stay_in_the_links(mill: kit.Mill) -> None:
    mill.verdict("gate", "pass")
    mill.verdict("gate", "fail", reason="worse than the champion")
    mill.verdict("drift", "fail")
    browser = client(mill)
    found = browser.get("/verdicts?check=gate&outcome=fail&format=json").json()["verdicts"]
    assert [verdict["reason"] for verdict in found] == ["worse than the champion"]
    assert "/verdicts?check=gate&amp;outcome=pass" in browser.get("/verdicts?check=gate&outcome=fail").text


def test_no_book_is_ever_read_whole(mill: kit.Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    pages = kit.turned(mill)
    honest = SqlBook.find

    def bounded(self: SqlBook[Any], **arguments: Any) -> list[Any]:
        assert arguments.get("limit") or set(arguments) == {"run"}, f"reads a whole book: {arguments}"
        return honest(self, **arguments)

    monkeypatch.setattr(SqlBook, "find", bounded)
    browser = client(mill)
    for address in kit.addresses(pages):
        assert browser.get(address).status_code == 200, address


def test_the_page_of_a_run_links_to_its_artifacts_and_their_lineage(mill: kit.Mill) -> None:
    pages = kit.turned(mill)
    browser = client(mill)
    run = browser.get(pages["run"]).text
    for item in ("started by", "executor", "start</th>", "end</th>", "Parameters", "981 rows, 2 columns"):
        assert item in run, item
    assert f'href="{pages["artifact"]}"' in run
    artifact = browser.get(pages["artifact"]).text
    assert "Inputs" in artifact
    assert "← step fit" in artifact
    assert browser.get("/artifacts/" + "0" * 64).status_code == 404


def test_nothing_from_the_ledger_becomes_markup(mill: kit.Mill) -> None:
    pages = kit.turned(mill, kit.EVIL)
    browser = client(mill)
    for name, address in pages.items():
        page = browser.get(address).text
        assert "<script>alert" not in page, name
        assert "<img src=x" not in page, name
    assert "&lt;script&gt;alert" in browser.get(pages["verdict"]).text


def test_request_parameters_never_become_markup(mill: kit.Mill) -> None:
    browser = client(mill)
    for reply in (
        browser.get("/verdicts", params={"text": f'"{kit.EVIL}', "check": kit.EVIL}),
        browser.get("/runs", params={"limit": kit.EVIL}),
        browser.get(f"/nothing/{kit.EVIL}"),
        browser.get("/runs/" + kit.EVIL.replace("/", "")),
    ):
        assert "<script>" not in reply.text
        assert "<img" not in reply.text


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000", "[::1]", "MILL.example:80"]
)
def test_accepted_host_names_are_served(mill: kit.Mill, host: str) -> None:
    assert client(mill, "mill.example").get("/", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:80", "", "[::2]"])
def test_any_other_host_name_is_refused(mill: kit.Mill, host: str) -> None:
    reply = client(mill).get("/", headers={"host": host})
    assert reply.status_code == 400
    assert "flights" not in reply.text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods_are_refused(mill: kit.Mill, method: str) -> None:
    reply = client(mill).request(method, "/runs")
    assert reply.status_code == 405
    assert reply.headers["allow"] == "GET, HEAD, POST"


def test_without_a_token_pages_are_read_only(mill: kit.Mill) -> None:
    browser = client(mill)
    for path in ("/runs", "/decisions/approve", "/nothing"):
        reply = browser.post(path, headers={"accept": "application/json"})
        assert reply.status_code == 401, path
        assert "a decision needs a token" in reply.text


def test_an_unknown_page_links_to_the_other_pages(mill: kit.Mill) -> None:
    browser = client(mill)
    for address in ("/nothing", "/runs/0123456789", "/releases/flights/9", "/releases/flights/nine", "/verdicts/none"):
        reply = browser.get(address)
        assert reply.status_code == 404, address
        assert '<a href="/releases">' in reply.text
        as_json = browser.get(address, params={"format": "json"})
        assert as_json.status_code == 404
        assert as_json.json()["error"]


def test_an_invalid_limit_is_refused(mill: kit.Mill) -> None:
    assert client(mill).get("/runs?limit=100000").status_code == 400


def test_an_internal_error_shows_no_details(mill: kit.Mill, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("secret path /home/ada")

    monkeypatch.setattr(SqlBook, "find", broken)
    app = kit.create_pages(mill)
    reply = TestClient(app, base_url="http://localhost", raise_server_exceptions=False).get("/runs")
    assert reply.status_code == 500
    assert "secret" not in reply.text


def test_the_regimes_page_shows_the_release_that_is_kept_for_each(mill: kit.Mill) -> None:
    kit.turned(mill)
    browser = client(mill)
    assert "flights/2" in browser.get("/regimes").text
    listed = browser.get("/regimes?format=json").json()["regimes"]["flights"]
    assert [regime["releases"] for regime in listed] == [["flights/1"], ["flights/2"]]


def test_the_page_of_the_policy_without_a_promise_names_the_command_that_states_one(mill: kit.Mill) -> None:
    kit.turned(mill)
    text = "no promise: run `tidemill backtest`"
    status = PolicyStatus(model="flights", environment="production", state="none", text=text)
    app = kit.create_pages(mill, read_policies=lambda: [status])
    browser = TestClient(app, base_url="http://localhost:8000")
    assert text in browser.get("/policy").text
    assert 'href="/policy"' in browser.get("/").text
    assert browser.get("/policy?format=json").json()["policies"][0]["state"] == "none"
    assert "tidemill policy status" in client(mill).get("/policy").text, "pages without a project name the command"


def test_a_bound_release_is_on_the_pages_with_its_value(mill: kit.Mill) -> None:
    kit.turned(mill)
    release = mill.release(3)
    champion = mill.books.routes.find(model="flights", newest=True, limit=1)[0]
    bound = Arm(release=release.label, version=3, package=release.package, role="bound", value="Jet <A>")
    mill.books.routes.add(
        replace(champion, id=mill.clock.mint(), version=3, arms=(*champion.arms, bound), change="bind", key="aircraft")
    )
    mill.board.publish(mill.books.routes.find(model="flights", newest=True, limit=1)[0])
    browser = client(mill)
    for path in ("/", "/routes", "/regimes", "/releases/flights/3"):
        text = browser.get(path).text
        assert "flights/3" in text
        assert "<A>" not in text
    assert "for Jet &lt;A&gt;" in browser.get("/routes").text
    listed = browser.get("/regimes?format=json").json()["regimes"]["flights"]
    assert [(regime["value"], regime["releases"]) for regime in listed][-1] == ("Jet <A>", ["flights/3"])
