"""While a store is moved away, nothing creates an empty one; when it is back, everything goes on without a restart."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from tests.daemon.test_lost_ledger import predict_and_label
from tests.daemon.test_up import until, up
from tests.projects import make_project
from tidemill.errors import StoreMissing
from tidemill.featurestore.online import SqliteOnline
from tidemill.testing.online import NOON

_PRODUCTION = "environments/production"
_STORES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "the ledger": (("ledger.db",), ("runs", "list")),
    "the ledger with its log": (("ledger.db", "ledger.db-wal", "ledger.db-shm"), ("run", "ingestion")),
    "the journal": ((f"{_PRODUCTION}/journal",), ("backup", "moved.tar")),
    "the board": ((f"{_PRODUCTION}/routes",), ("routes", "list")),
    "the tables of rows": ((f"{_PRODUCTION}/tables",), ("run", "ingestion")),
    "the blobs": (("blobs",), ("run", "training")),
    "the state of the environment": ((_PRODUCTION,), ("status",)),
}


def run(shop: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "tidemill", *words), cwd=shop, capture_output=True, text=True, check=False
    )


def test_a_store_that_is_moved_away_is_missed_and_used_again(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    root = make_project(shop).state_folder
    assert run(shop, "run", "training").returncode == 0
    with up(shop) as (client, log):
        until(lambda: "the daemon is running" in log.read_text())
        pages = until(lambda: re.search(r"pages at (http://\S+)", log.read_text()))[1]
        predict_and_label(client)
        until((root / _PRODUCTION / "journal" / ".store").exists)
        for what, (names, words) in _STORES.items():
            present = [root / name for name in names if (root / name).exists()]
            aside = [tmp_path / path.name for path in present]
            for path, elsewhere in zip(present, aside, strict=True):
                path.rename(elsewhere)
            predict(client)
            for page in ("/", "/runs", "/routes"):
                assert httpx.get(pages + page, timeout=60).status_code in (200, 503)
            refused = run(shop, *words)
            assert refused.returncode == 1, (what, refused.stdout, refused.stderr)
            assert re.search(rf"{what.partition(' with')[0]}.* at \S+ is missing", refused.stderr), refused.stderr
            assert "restore" in refused.stderr
            assert not any(path.exists() for path in present), what
            if what == "the blobs":  # nothing reads them now
                assert "needs a person: the blobs at" in run(shop, "status").stdout
                until(lambda: "daemon: stores: the blobs at" in log.read_text())
            for path, elsewhere in zip(present, aside, strict=True):
                elsewhere.rename(path)
            until(lambda: httpx.get(pages + "/", timeout=60).status_code == 200)
            predict_and_label(client)
        assert run(shop, "run", "ingestion").returncode == 0
    assert run(shop, "audit", "verify").returncode == 0


def predict(client: httpx.Client) -> None:
    """Request a prediction, which needs no store but those in memory."""
    row = {
        "order_id": "o-new",
        "ordered": "2026-02-03T10:00:00Z",
        "distance_km": 300.5,
        "items": 2,
        "carrier": "swift",
    }
    assert client.post("/predict/shop", json={"rows": [row]}).status_code == 200


@pytest.mark.parametrize("with_log", [True, False])
def test_an_online_store_that_is_moved_away_is_missed_and_used_again(tmp_path: Path, with_log: bool) -> None:
    file = tmp_path / "state" / "online.db"
    online = SqliteOnline(file)
    assert online.read("view", ["a"]) == [None]
    assert not file.parent.exists(), "reading creates nothing"
    online.write("view", [("a", NOON, {"x": 1})])
    names = [file.name + ending for ending in (("", "-wal", "-shm") if with_log else ("",))]
    present = [file.with_name(name) for name in names if file.with_name(name).exists()]
    for path in present:
        path.rename(tmp_path / path.name)
    for opened in (online, SqliteOnline(file)):
        with pytest.raises(StoreMissing, match=r"the online store at .*online.db is missing"):
            opened.read("view", ["a"])
        with pytest.raises(StoreMissing):
            opened.write("view", [("b", NOON, {"x": 2})])
    assert not file.exists()
    for path in present:
        (tmp_path / path.name).rename(path)
    for opened in (online, SqliteOnline(file)):
        assert opened.read("view", ["a"]) == [(NOON, {"x": 1})]
        opened.write("view", [("b", NOON, {"x": 2})])


def test_commands_that_read_create_nothing_in_a_new_project(tmp_path: Path) -> None:
    shop = tmp_path / "shop"
    root = make_project(shop).state_folder
    shutil.rmtree(root, ignore_errors=True)
    for words in (("runs", "list"), ("status",), ("routes", "list"), ("models", "list"), ("audit", "verify")):
        done = run(shop, *words)
        assert done.returncode == 0, done.stderr
    assert not root.exists()
