"""The report and the pages in a real browser: charts are drawn, and no script or style is refused."""

import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect

from tests.access.kit import Tokens, create_site, serving_pages
from tests.web import kit
from tidemill.backtest.report import render

_DRAWN = "[data-figure] svg.main-svg"
_BELOW_400 = re.compile(r"^[1-3]?\d?\d(\.\d+)?$")


@contextmanager
def opened(browser: Browser, address: str, scheme: str = "light") -> Iterator[Page]:
    """Open a page; assert that its console has no messages and that it loads nothing from other servers."""
    page = browser.new_page(color_scheme=scheme)  # type: ignore[arg-type]
    errors: list[str] = []
    requested: list[str] = []
    page.on("console", lambda message: errors.append(message.text))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("request", lambda request: requested.append(request.url))
    page.goto(address)
    yield page
    assert not errors
    assert not [url for url in requested if not url.startswith(("file:", "data:", "http://127.0.0.1:"))]
    page.close()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """The address of the pages of a filled workspace, and the paths of its pages."""
    mill = kit.Mill(tmp_path)
    paths = kit.turned(mill, kit.EVIL)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(kit.create_pages(mill), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}", paths
    server.should_exit = True
    thread.join(10)
    listening.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_draws_its_charts_from_one_file(browser: Browser, tmp_path: Path, scheme: str) -> None:
    file = tmp_path / "report.html"
    file.write_text(render(kit.three()), encoding="utf-8")
    with opened(browser, file.as_uri(), scheme) as page:
        page.wait_for_selector(_DRAWN)
        figures = page.locator("[data-figure]")
        assert figures.count() == 4
        for index in range(figures.count()):
            assert figures.nth(index).locator("svg.main-svg").count() > 0
        assert page.locator("#figure-quality ~ *").count() == 0
        assert page.locator("[data-figure=figure-quality] .scatterlayer .trace").count() >= 3
        ink = page.evaluate("getComputedStyle(document.querySelector('.xtick text')).fill")
        assert ink == page.evaluate("getComputedStyle(document.body).color")


def test_the_report_runs_only_its_own_scripts(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    evil = kit.outcome("loop", 0.4, timeline=[kit.routed("2013-03-05", "direct", kit.EVIL, ("a/1", "champion", 1.0))])
    page_text = render(kit.comparison(evil, kit.outcome("static", 0.5)))
    file.write_text(page_text.replace("</main>", "<script>document.title = 'taken'</script></main>"), encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri())
    page.wait_for_selector(_DRAWN)
    assert page.title().startswith("flights"), "the policy of the page refuses a script that it does not name"
    page.close()


def test_a_narrow_screen_scrolls_tables_and_not_the_page(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(render(kit.three()), encoding="utf-8")
    with opened(browser, file.as_uri()) as page:
        page.set_viewport_size({"width": 400, "height": 800})
        page.wait_for_selector(_DRAWN)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400
        for drawn in page.locator(_DRAWN).all():
            expect(drawn).to_have_attribute("width", _BELOW_400)


def test_every_page_opens_in_a_browser(browser: Browser, site: tuple[str, dict[str, str]]) -> None:
    address, paths = site
    for name, path in paths.items():
        with opened(browser, address + path) as page:
            assert page.locator("h1").count() == 1, name
            if name in ("releases", "routes"):
                page.wait_for_selector(_DRAWN)


def test_a_person_logs_in_approves_and_logs_out(browser: Browser, tmp_path: Path) -> None:
    mill = kit.Mill(tmp_path)
    kit.turned(mill)
    tokens = Tokens(mill.workspace)
    with serving_pages(create_site(mill)) as address, browser.new_page() as page:
        page.goto(f"{address}/releases/flights/2")
        assert page.inner_text("h1") == "Log in"
        page.fill("#token", tokens.forged)
        with page.expect_response("**/login") as refused:
            page.click("text=Log in >> nth=-1")
        assert refused.value.status == 401
        assert "the token is not known" in page.inner_text("[role=alert]")
        page.fill("#token", tokens.by_role["approver"])
        page.click("button")
        assert page.inner_text("h1") == "Release flights/2", "the page that was requested"
        (cookie,) = page.context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["expires"]) == (True, "Strict", -1)
        page.fill("#reason-roll-back", "wrong prices")
        page.click("form.decision button")
        assert page.inner_text("h1") == "Routes"
        (entry,) = mill.books.audit.find(action="rolled back to")
        assert (entry.actor, entry.subject, entry.reason) == ("Ada", "flights/1", "wrong prices")
        page.click("text=Log out")
        assert page.inner_text("h1") == "Log in"
        page.goto(f"{address}/runs")
        assert page.inner_text("h1") == "Log in"


def test_links_lead_from_the_release_in_production_to_its_evidence(
    browser: Browser, site: tuple[str, dict[str, str]]
) -> None:
    address, _ = site
    with opened(browser, address + "/") as page:
        page.click("text=evidence")
        assert page.inner_text("h1") == "Verdict of gate"
        page.click("dd a >> nth=-1")
        assert page.inner_text("h1") == "Run of training"
        page.click("text=flights/2")
        assert page.inner_text("h1") == "Release flights/2"
