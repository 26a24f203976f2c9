"""A release shows its signature and a request that works when it is pasted."""

import shlex
from pathlib import Path

import httpx
import pytest

from tests.projects import listed, make_project, tidemill
from tidemill.compose.session import open_session
from tidemill.project.project import Project
from tidemill.serving.server import HttpServer

VIEW = """
from tidemill import Entity, FeatureView

tariff = FeatureView(name="tariff", entity=Entity("carrier", ("carrier",)), source="tariffs", columns=("level",))
"""


def post_curl(command: str) -> httpx.Response:
    """Send the request of a `curl` command, as a shell would."""
    program, option, body, address = shlex.split(command)
    assert (program, option) == ("curl", "-d")
    return httpx.post(address, content=body.encode(), timeout=60)


@pytest.fixture(params=["plain", "views"])
def shop(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    if request.param == "plain":
        return make_project(tmp_path / "shop").folder
    tariffs = '[sources.tariffs]\npath = "data/tariffs.csv"\ntime = "since"\n'
    project = make_project(tmp_path / "shop", replace={"[inputs]": tariffs + "\n[inputs]\nviews = ['tariff']"})
    (project.folder / "features.py").write_text(VIEW)
    rows = "carrier,since,level\nsteady,2025-12-01T00:00:00Z,1\nthrifty,2025-12-01T00:00:00Z,2\n"
    (project.folder / "data" / "tariffs.csv").write_text(rows)
    return project.folder


def test_the_shown_request_works_when_pasted(shop: Path) -> None:
    tidemill(shop, "run", "training")
    usage = listed(shop, "models", "show", "shop")["usage"]
    assert (usage["classes"], usage["positive"], usage["key"]) == (["false", "true"], "true", ["order_id"])
    shown = tidemill(shop, "models", "show", "shop").stdout
    assert usage["curl"] in shown
    assert "baseline" in shown
    session = open_session(Project(shop))
    server = HttpServer(session.workspace, session.clock, port=0, strict=session.project.policy.strict_models)
    server.start()
    try:
        described = httpx.get(f"{server.address}/predict/shop", timeout=60).json()
        assert described == usage | {"curl": usage["curl"].replace("http://127.0.0.1:8000", server.address)}
        for command in (described["curl"], usage["curl"].replace("http://127.0.0.1:8000", server.address)):
            reply = post_curl(command)
            assert reply.status_code == 200, reply.text
            assert reply.json()["predictions"][0]["value"] in (True, False)
            assert "warnings" not in reply.json()
        assert httpx.get(f"{server.address}/predict/nope", timeout=60).status_code == 404
        assert httpx.head(f"{server.address}/predict/shop").status_code == 200
    finally:
        server.stop()
