"""What a reply promises: predictions after SIGKILL and on a full disk, in real processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import polars as pl
import pytest

from tests.serving.kit import MODEL, ROW, ServingKit, package, until
from tidemill.compose.backends import open_workspace
from tidemill.journal.files import FileJournal
from tidemill.testing.journal import START, rows

KIND = f"predictions/{MODEL}"
PROGRAM = """
import sys, threading
from pathlib import Path
from tidemill.clock import SystemClock
from tidemill.compose.backends import open_workspace
from tidemill.core.policy import JournalPolicy
from tidemill.serving.server import HttpServer
workspace = open_workspace(Path(sys.argv[1]), urls={})
policy = JournalPolicy(durability=sys.argv[2], seconds=float(sys.argv[3]))
server = HttpServer(workspace, SystemClock(), port=0, journal=policy)
server.start()
print(server.address, flush=True)
sys.stdin.read()
server.stop()
"""


@contextmanager
def serving(root: Path, durability: str, seconds: float = 1.0) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A service in a process of its own, and its address; it stops in order when the block ends."""
    command = [sys.executable, "-c", PROGRAM, str(root), durability, str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait(60)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kit = ServingKit(tmp_path_factory.mktemp("durability") / "workspace")
    kit.route(kit.arm(1, package(1), share=1.0))
    return kit.workspace.root


def journal_of(root: Path) -> FileJournal:
    journal = open_workspace(root, urls={}).journal
    assert isinstance(journal, FileJournal)
    return journal


def ask_until_killed(process: subprocess.Popen[str], address: str, replies: int) -> dict[str, float]:
    """Send requests from four clients and kill the service after some replies; return the time of each reply by id."""
    answered: dict[str, float] = {}
    killed = threading.Event()

    def ask(_: int) -> None:
        with httpx.Client(base_url=address, timeout=30) as client:
            while not killed.is_set():
                try:
                    reply = client.post(f"/predict/{MODEL}", json={"rows": [ROW]})
                except httpx.HTTPError:
                    return
                answered[reply.json()["predictions"][0]["id"]] = time.monotonic()
                if len(answered) >= replies:
                    killed.set()
                    os.kill(process.pid, signal.SIGKILL)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(ask, range(4)))
    return answered


@pytest.mark.parametrize("replies", [1, 40, 300])
def test_after_a_kill_each_answered_prediction_is_in_a_grouped_journal(root: Path, replies: int) -> None:
    with serving(root, "group") as (process, address):
        answered = ask_until_killed(process, address, replies)
    journal = journal_of(root)
    found = journal.read(KIND)["id"]
    assert set(answered) <= set(found)
    assert found.n_unique() == found.len()
    journal.tidy(KIND)
    assert not list(root.rglob("*.spool"))
    assert journal.read(KIND)["id"].sort().equals(found.sort())


def test_after_a_kill_a_batched_journal_lacks_at_most_the_stated_time(root: Path) -> None:
    with serving(root, "batch", 4.0) as (process, address):
        answered = ask_until_killed(process, address, 600)
    found = set(journal_of(root).read(KIND)["id"])
    last = max(answered.values())
    assert all(last - moment <= 4.0 for identifier, moment in answered.items() if identifier not in found)


def test_a_service_alone_bounds_the_number_of_files(root: Path) -> None:
    journal = journal_of(root)
    for number in range(200):
        journal.append("labels/alone", rows(START, value=[number]))
    folder = root / "environments/production/journal/labels/alone"
    with serving(root, "batch"):
        until(lambda: len(list(folder.glob("*.arrow"))) <= 32)
    assert sorted(journal.read("labels/alone")["value"]) == list(range(200))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.parametrize("durability", ["group", "batch"])
def test_a_full_disk_is_reported_and_loses_no_recorded_reply(root: Path, small_disk: Path, durability: str) -> None:
    environment = small_disk / "production"
    environment.mkdir()
    (environment / ".store").touch()  # it is a store of its own
    state = root / "environments/production/journal"
    aside = state.with_name(f"journal-before-{durability}")
    state.rename(aside)
    state.symlink_to(environment)
    filler = small_disk / "filler"
    try:
        with serving(root, durability, 0.2) as (_, address), httpx.Client(base_url=address, timeout=30) as client:
            answered = ask(client, 20)
            with pytest.raises(OSError, match="No space left"):
                filler.write_bytes(bytes(2 << 20))
            statuses = {client.post(f"/predict/{MODEL}", json={"rows": [ROW] * 50}).status_code for _ in range(40)}
            assert statuses <= ({200, 507} if durability == "group" else {200})
            until(lambda: client.get("/ready").status_code == 503)
            assert "cannot be written" in client.get("/ready").json()["journal"]
            assert "tidemill_journal_failed 1.0" in client.get("/metrics").text
            filler.unlink()
            until(lambda: ask(client, 1) and client.get("/ready").status_code == 200)
            answered |= ask(client, 20)
        found: pl.DataFrame = FileJournal(environment).read(KIND)
        assert answered <= set(found["id"])
        assert found["id"].n_unique() == found.height
    finally:
        state.unlink()
        aside.rename(state)


def ask(client: httpx.Client, requests: int) -> set[str]:
    """Send requests; return the ids of the predictions that were answered."""
    replies = (client.post(f"/predict/{MODEL}", json={"rows": [ROW]}) for _ in range(requests))
    return {reply.json()["predictions"][0]["id"] for reply in replies if reply.status_code == 200}
