"""`tidemill up` ends within its time after SIGTERM, whatever its jobs do, and the next one finishes them."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import httpx
import polars as pl
import pytest

from tests.daemon.test_up import Caller, until
from tests.projects import listed, make_project, tidemill
from tidemill.compose.session import open_session
from tidemill.project.project import Project

_SECONDS = 18.0
_STEPS = """

import hashlib, os, time
from pathlib import Path
from tidemill import pipeline, step


@step(cache=False)
def prepare() -> int:
    Path("prepared").write_text(Path("prepared").read_text() + "x" if Path("prepared").exists() else "x")
    return 1


@step(cache=False)
def work(prepared: int) -> int:
    if not Path("begun").exists():
        Path("begun").touch()
        HARM
    return 2


@pipeline
def long() -> None:
    work(prepare())
"""
_HARMS = {
    "a computation in native code": "hashlib.pbkdf2_hmac('sha256', b'x', b'y', 10**9)",
    "a step that catches everything": "\n".join(
        (
            "while True:",
            "            try:",
            "                time.sleep(600)",
            "            except BaseException:",
            "                pass",
        )
    ),
}


class LastCaller(Caller):
    """A client that stops when the service does."""

    def run(self) -> None:
        with suppress(httpx.TransportError):
            super().run()


def start(folder: Path, name: str) -> tuple[subprocess.Popen[bytes], Path]:
    log = folder / name
    with log.open("w") as output:
        command = (sys.executable, "-m", "tidemill", "up", "--port", "0")
        return subprocess.Popen(command, cwd=folder, stderr=output, env=os.environ), log


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shutdown") / "shop"
    make_project(folder)
    with (folder / "tidemill.toml").open("a") as policy:
        policy.write(f"\n[shutdown]\nseconds = {_SECONDS}\n")
    tidemill(folder, "run", "training")
    return folder


@pytest.mark.parametrize("harm", list(_HARMS))
def test_a_job_that_does_not_end_is_killed_and_resumed_without_blame(shop: Path, harm: str) -> None:
    code = (shop / "pipeline.py").read_text().partition("\n\nimport hashlib")[0]
    (shop / "pipeline.py").write_text(code + _STEPS.replace("HARM", _HARMS[harm]))
    for name in ("begun", "prepared"):
        (shop / name).unlink(missing_ok=True)
    rows = pl.read_csv(shop / "data" / "shop.csv", try_parse_dates=True).head(50)
    requests = rows.with_columns(pl.col("ordered").dt.strftime("%Y-%m-%dT%H:%M:%SZ")).to_dicts()
    process, log = start(shop, "first.log")
    address = until(lambda: re.search(r"serving at (http://\S+)", log.read_text()), process)[1]
    tidemill(shop, "triggers", "fire", "long")
    until(lambda: (shop / "begun").exists(), process)
    with httpx.Client(base_url=address, timeout=30) as client:
        caller = LastCaller(client, requests)
        caller.start()
        until(lambda: caller.served["shop/1"] > 20, process)
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        code_of_up = process.wait(_SECONDS + 60)
        seconds = time.monotonic() - began
        caller.stop.set()
        caller.join()
    assert seconds < _SECONDS + 2
    assert code_of_up == 0, log.read_text()
    (job,) = [each for each in listed(shop, "jobs", "list") if each["pipeline"] == "long" and each["state"] != "done"]
    assert job["state"] == "waiting"
    assert job["deaths"] == 0
    books = open_session(Project(shop)).workspace.ledger
    run = books.runs.get(job["run"])
    assert (run.state, run.interruption) == ("interrupted", "signal")
    assert len(rows_of(shop)) >= caller.served["shop/1"]

    process, log = start(shop, "second.log")
    try:
        until(lambda: books.jobs.get(job["id"]).state == "done", process)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(_SECONDS + 60) == 0, log.read_text()
    assert (shop / "prepared").read_text() == "x", "a finished step is not repeated"
    assert books.runs.get(job["run"]).state == "done"


def rows_of(shop: Path) -> list[str]:
    """The ids of the predictions in the journal."""
    return open_session(Project(shop)).workspace.journal.read("predictions/shop")["id"].to_list()
