"""Without a ledger, a running service and a service that starts meanwhile continue to predict."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path

import httpx
import pytest

from tests.daemon.test_away import refuse_connections
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


def predict_and_label(client: httpx.Client) -> str:
    """Request a prediction, send its label, and return its id."""
    reply = client.post("/predict/shop", json={"rows": [ROW]})
    assert reply.status_code == 200, reply.text
    prediction = str(reply.json()["predictions"][0]["id"])
    labelled = client.post("/labels/shop", json={"labels": [{"id": prediction, "value": "true"}]})
    assert labelled.status_code == 200, labelled.text
    return prediction


@pytest.fixture(params=["sqlite", "postgresql"])
def without_ledger(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], AbstractContextManager[None]]:
    """A context manager in which the shop's ledger is not available."""
    if request.param == "sqlite":
        return partial(moved_away, tmp_path / "shop" / ".tidemill" / "ledger.db")
    url = request.getfixturevalue("postgres_url")
    monkeypatch.setenv("TIDEMILL_LEDGER", url)
    return partial(refuse_connections, url)


def test_the_service_predicts_while_the_ledger_is_not_available(
    tmp_path: Path, without_ledger: Callable[[], AbstractContextManager[None]]
) -> None:
    shop = tmp_path / "shop"
    root = make_project(shop).state_folder
    tidemill(shop, "run", "training")
    predictions = []
    with up(shop) as (client, log):
        until(lambda: "the daemon is running" in log.read_text())
        predictions.append(predict_and_label(client))
        with without_ledger():
            until(lambda: "daemon: ledger: the ledger" in log.read_text())
            predictions.append(predict_and_label(client))
            with up(shop, "serve") as (other, _):
                predictions.append(predict_and_label(other))
        until(lambda: "ledger: recovered" in log.read_text())
        predictions.append(predict_and_label(client))
    now = SystemClock().now()
    for kind in ("predictions", "labels"):
        rows = open_workspace(root).journal.read(f"{kind}/shop", now - timedelta(hours=1), now + timedelta(hours=1))
        assert set(rows["id"]) >= set(predictions)
    assert listed(shop, "models", "list")[0]["stage"] == "production"
