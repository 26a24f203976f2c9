"""A ledger that is lost stops no prediction: not of a service that runs, and not of one that starts meanwhile."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.daemon.test_away import refused
from tests.daemon.test_up import until, up
from tests.projects import listed, make_project, tidemill
from tidemill.clock import SystemClock
from tidemill.compose.backends import open_workspace

ROW = {"order_id": "o-new", "ordered": "2026-02-03T10:00:00Z", "distance_km": 300.5, "items": 2, "carrier": "swift"}


@contextmanager
def moved_away(file: Path) -> Iterator[None]:
    aside = file.with_name("aside.db")
    file.rename(aside)
    try:
        yield
    finally:
        aside.rename(file)


def ask(client: httpx.Client) -> str:
    """The id of an answer that was given, and its outcome taken."""
    reply = client.post("/predict/shop", json={"rows": [ROW]})
    assert reply.status_code == 200, reply.text
    found = str(reply.json()["predictions"][0]["id"])
    told = client.post("/labels/shop", json={"labels": [{"id": found, "value": "true"}]})
    assert told.status_code == 200, told.text
    return found


@pytest.fixture(params=["sqlite", "postgresql"])
def away(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], AbstractContextManager[None]]:
    """Takes the ledger of the shop away for a while."""
    if request.param == "sqlite":
        return partial(moved_away, tmp_path / "shop" / ".tidemill" / "ledger.db")
    url = request.getfixturevalue("postgres_url")
    monkeypatch.setenv("TIDEMILL_LEDGER", url)
    return partial(refused, url)


def test_predictions_go_on_while_the_ledger_is_away(
    tmp_path: Path, away: Callable[[], AbstractContextManager[None]]
) -> None:
    shop = tmp_path / "shop"
    root = make_project(shop).state_folder
    tidemill(shop, "run", "training")
    answers = []
    with up(shop) as (client, log):
        until(lambda: "the daemon watches" in log.read_text())
        answers.append(ask(client))
        with away():
            until(lambda: "ledger: the ledger at" in log.read_text())
            answers.append(ask(client))
            with up(shop, "serve") as (other, _):
                answers.append(ask(other))
        until(lambda: "ledger: well again" in log.read_text())
        answers.append(ask(client))
    now = SystemClock().now()
    for found in ("predictions", "labels"):
        rows = open_workspace(root).journal.read(f"{found}/shop", now - timedelta(hours=1), now + timedelta(hours=1))
        assert set(rows["id"]) >= set(answers)
    assert listed(shop, "models", "list")[0]["stage"] == "production"
