"""`tidemill up`: answers, takes labels, retrains on a trigger and changes models, and no request fails."""

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
    with log.open("w") as written:
        process = subprocess.Popen(
            (sys.executable, "-m", "tidemill", verb, "--port", "0"), cwd=folder, stderr=written, env=os.environ
        )
    try:
        address = until(lambda: re.search(r"answering at (http://\S+)", log.read_text()), process)[1]
        with httpx.Client(base_url=address, timeout=30) as client:
            yield client, log
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert verb != "up" or "ended: what was on its way" in log.read_text()


def until(test: Callable[[], Any], process: subprocess.Popen[bytes] | None = None, seconds: float = 90) -> Any:
    """What a test gives once it gives something; waiting has an end."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        if found := test():
            return found
        assert process is None or process.poll() is None, "it ended"
        time.sleep(0.1)
    raise AssertionError("waited too long")


class Caller(threading.Thread):
    """A client that keeps asking, and says what turned out."""

    def __init__(self, client: httpx.Client, rows: list[dict[str, Any]]) -> None:
        super().__init__()
        self.client, self.rows = client, rows
        self.answered: Counter[str] = Counter()
        self.failed: list[str] = []
        self.ended = threading.Event()

    def run(self) -> None:
        place = 0
        while not self.ended.is_set():
            row = dict(self.rows[place % len(self.rows)])
            truth = row.pop("late")
            row["order_id"] = f"{row['order_id']}-{place}"
            place += 1
            reply = self.client.post("/predict/shop", json={"rows": [row]})
            if reply.status_code != 200:
                self.failed.append(reply.text)
                continue
            self.answered[reply.json()["release"]] += 1
            label = {"id": reply.json()["predictions"][0]["id"], "value": truth}
            told = self.client.post("/labels/shop", json={"labels": [label]})
            if told.status_code != 200:
                self.failed.append(told.text)


def test_it_retrains_and_changes_models_while_a_client_keeps_sending(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    changes = {"minimum = 300": "minimum = 30", "margin = 0.01": "margin = 0.5", 'cooldown = "1m"': 'cooldown = "0s"'}
    changes['pipeline = "ingestion"'] = 'pipeline = "training"'
    make_project(folder, replace=changes)
    tidemill(folder, "run", "training")
    rows = pl.read_csv(folder / "data" / "shop.csv", try_parse_dates=True)
    asked = rows.with_columns(pl.col("ordered").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).to_dicts()
    with up(folder) as (client, _):
        caller = Caller(client, asked)
        caller.start()
        named = (pl.lit("n") + pl.col("order_id")).alias("order_id")
        newer = rows.with_columns(pl.col("ordered").dt.offset_by("90d"), named)
        pl.concat([rows, newer.select(rows.columns)]).write_csv(folder / "data" / "shop.csv")  # the trigger: new data
        until(lambda: len(listed(folder, "models", "list")) == 2)
        until(lambda: caller.answered["shop/2"] >= 60 or caller.failed)
        tidemill(folder, "triggers", "fire", "watching")
        until(lambda: listed(folder, "routes", "list")[0]["arms"][0]["release"] == "shop/2")
        promoted = caller.answered["shop/2"]
        until(lambda: caller.answered["shop/2"] >= promoted + 100 or caller.failed)
        caller.ended.set()
        caller.join(30)
        assert caller.failed == []
        assert caller.answered["shop/1"] > 0
    history = [route["reason"] for route in listed(folder, "models", "history")]
    assert history[0] == "the first release"
    assert history[1].startswith("canary")
    assert history[2].startswith("promoted")


def test_a_second_daemon_waits_for_the_lease(tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    make_project(folder)
    with up(folder) as (_, first):
        until(lambda: "the daemon watches" in first.read_text())
        second = folder / "second.log"
        with second.open("w") as written:
            process = subprocess.Popen(
                (sys.executable, "-m", "tidemill", "up", "--port", "0"), cwd=folder, stderr=written, env=os.environ
            )
        try:
            until(lambda: "another daemon has this environment" in second.read_text(), process)
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
