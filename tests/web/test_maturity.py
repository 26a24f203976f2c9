"""The page of the maturity."""

from functools import partial
from pathlib import Path

from starlette.testclient import TestClient

from tests.projects import make_project
from tests.web import kit
from tidemill.evidence.maturity import assess


def test_the_page_shows_the_level_with_links_to_its_evidence_and_the_cures(tmp_path: Path) -> None:
    mill = kit.Mill(tmp_path / "workspace")
    kit.turned(mill)
    project = make_project(tmp_path / "flights")
    read = partial(assess, mill.books, project.policy, "production")
    browser = TestClient(
        kit.create_pages(mill, read_maturity=read),
        base_url="http://localhost:8000",
    )
    page = browser.get("/maturity").text
    assert "level 0 (manual process)" in page
    assert 'href="/releases/flights/2"' in page
    assert "tidemill up" in page
    assert 'href="/maturity"' in browser.get("/").text
    found = browser.get("/maturity?format=json").json()["maturity"]
    assert found["level"] == 0
    assert [level["reached"] for level in found["models"][0]["levels"]] == [True, False, False]


def test_without_a_project_the_page_names_the_command(tmp_path: Path) -> None:
    mill = kit.Mill(tmp_path)
    browser = TestClient(kit.create_pages(mill), base_url="http://localhost:8000")
    assert "tidemill maturity" in browser.get("/maturity").text
