"""`tidemill up`: predicts, accepts labels, retrains on a trigger and changes models, and no request fails."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import polars as pl

from tests.projects import listed, make_project, tidemill


@contextmanager
def up(folder: Path, verb: str = "up") -> Iterator[tuple[httpx.Client, Path]]:
    log = folder / f"{verb}.log"
    with log.open("w") as output:
        process = subprocess.Popen(
            (sys.executable, "-m", "tidemill", verb, "--port", "0"), cwd=folder, stderr=output, env=os.environ
        )
    try:
        address = until(lambda: re.search(r"serving at (http://\S+)", log.read_text()), process)[1]
        with httpx.Client(base_url=address, timeout=30) as client:
            yield client, log
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(300) == 0
    assert verb != "up" or "stopped: all open requests" in log.read_text()


def until(test: Callable[[], Any], process: subprocess.Popen[bytes] | None = None, seconds: float = 300) -> Any:
    """Wait until a test returns a true value, and return it; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := test():
            return value
        assert process is None or process.poll() is None, "the process stopped"
        time.sleep(0.1)
    raise AssertionError("waited too long")


class Caller(threading.Thread):
    """A client that keeps requesting predictions and sending labels."""

    def __init__(self, client: httpx.Client, rows: list[dict[str, Any]]) -> None:
        super().__init__()
        self.client, self.rows = client, rows
        self.served: Counter[str] = Counter()
        self.failed: list[str] = []
        self.stop = threading.Event()

    def run(self) -> None:
        count = 0
        while not self.stop.is_set():
            row = dict(self.rows[count % len(self.rows)])
            truth = row.pop("late")
            row["order_id"] = f"{row['order_id']}-{count}"
            count += 1
            reply = self.client.post("/predict/shop", json={"rows": [row]})
            if reply.status_code != 200:
                self.failed.append(reply.text)
                continue
            self.served[reply.json()["release"]] += 1
            label = {"id": reply.json()["predictions"][0]["id"], "value": truth}
            labelled = self.client.post("/labels/shop", json={"labels": [label]})
            if labelled.status_code != 200:
                self.failed.append(labelled.text)


def test_it_retrains_and_changes_models_while_a_client_keeps_sending(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    changes = {
        "minimum = 20\n": 'minimum = 30\nblock = "0.2s"\nshortest = "1s"\n',
        'cooldown = "1m"': 'cooldown = "0s"',
    }
    changes |= {"margin = 0.01": "margin = 0.5", "margin = 0.13": "margin = 0.5"}
    changes['pipeline = "ingestion"'] = 'pipeline = "training"'
    make_project(folder, replace=changes)
    tidemill(folder, "run", "training")
    rows = pl.read_csv(folder / "data" / "shop.csv", try_parse_dates=True)
    requests = rows.with_columns(pl.col("ordered").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).to_dicts()
    with up(folder) as (client, _):
        caller = Caller(client, requests)
        caller.start()
        named = (pl.lit("n") + pl.col("order_id")).alias("order_id")
        newer = rows.with_columns(pl.col("ordered").dt.offset_by("90d"), named)
        pl.concat([rows, newer.select(rows.columns)]).write_csv(
            folder / "data" / "shop.csv"
        )  # new data fires the trigger
        until(lambda: len(listed(folder, "models", "list")) == 2)
        until(lambda: caller.served["shop/2"] >= 60 or caller.failed)
        tidemill(folder, "triggers", "fire", "watching")
        until(lambda: listed(folder, "routes", "list")[0]["arms"][0]["release"] == "shop/2")
        promoted = caller.served["shop/2"]
        until(lambda: caller.served["shop/2"] >= promoted + 100 or caller.failed)
        caller.stop.set()
        caller.join(30)
        assert caller.failed == []
        assert caller.served["shop/1"] > 0
    history = [route["reason"] for route in listed(folder, "models", "history")]
    assert history[0] == "the first release"
    assert history[1].startswith("canary")
    assert history[2].startswith("promoted")


def test_a_second_daemon_waits_for_the_lease(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    make_project(folder)
    with up(folder) as (_, first):
        until(lambda: "the daemon is running" in first.read_text())
        second = folder / "second.log"
        with second.open("w") as output:
            process = subprocess.Popen(
                (sys.executable, "-m", "tidemill", "up", "--port", "0"), cwd=folder, stderr=output, env=os.environ
            )
        try:
            until(lambda: "another daemon runs in this environment" in second.read_text(), process)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(300) == 0
