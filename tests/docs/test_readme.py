"""The README's way from a table to an answer and its reasons, as it is written there."""

import csv
import json
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.docs.pages import README, marked

_PORT = 8000


def test_your_own_table(tmp_path: Path) -> None:
    """Only the port is another one than in the README, and the id is that of the answer."""
    *before, serve = marked(README, "own-table: train and serve").strip().splitlines()
    ask = marked(README, "own-table: ask")
    label, why = marked(README, "own-table: label").strip().splitlines()
    _write_table(tmp_path, before[0], ask)
    _run("\n".join(before), tmp_path)

    port = _free_port()
    with _served(f"{serve} --port {port}", tmp_path / "mine", port):
        reply = json.loads(_run(_at(ask, port), tmp_path))
        (prediction,) = reply["predictions"]
        assert abs(sum(prediction["probabilities"].values()) - 1) < 1e-9
        name = prediction["id"]
        assert json.loads(_run(_at(re.sub(r"\bID\b", name, label), port), tmp_path)) == {"accepted": 1}

    reported = _run(re.sub(r"\bID\b", name, why), tmp_path)
    message = [line.split()[0] for line in reported.splitlines() if not line.startswith(" ")]
    assert {"prediction", "features", "release", "route", "run", "verdict", "code", "cause"} <= set(message)


def _write_table(folder: Path, init: str, ask: str) -> None:
    """A table of 400 rows with the columns that the README asks with, and the label that it names."""
    words = shlex.split(init)
    file, label = words[words.index("--from") + 1], words[words.index("--label") + 1]
    row = json.loads(shlex.split(ask)[2])["rows"][0]
    chance = random.Random(1)
    with (folder / file).open("w", newline="", encoding="utf-8") as opened:
        table = csv.writer(opened)
        table.writerow([*row, label])
        for _ in range(400):
            likely = chance.random()
            values: list[Any] = [
                round(likely * 2 * value, 2) if isinstance(value, float) else chance.choice([value, "other", "third"])
                for value in row.values()
            ]
            table.writerow([*values, int(chance.random() < likely)])


def _run(commands: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-euc", commands],
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{commands}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _environment() -> dict[str, str]:
    """A user's environment with `tidemill` on the path and nothing set; one thread, as other tests run beside it."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMILL_")}
    return kept | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept['PATH']}", "OMP_NUM_THREADS": "1"}


def _at(command: str, port: int) -> str:
    assert f":{_PORT}/" in command
    return command.replace("curl ", "curl -s ").replace(f":{_PORT}/", f":{port}/")


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def _served(command: str, folder: Path, port: int) -> Iterator[None]:
    """The service while it answers; it ends by itself on Ctrl-C, with exit code 0."""
    process = subprocess.Popen(shlex.split(command), cwd=folder, env=_environment(), stderr=subprocess.PIPE, text=True)
    try:
        _wait_until_ready(process, port)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        _, message = process.communicate(timeout=300)
    assert process.returncode == 0, message


def _wait_until_ready(process: "subprocess.Popen[str]", port: int) -> None:
    until = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=60) as reply:
                assert reply.status == 200
                return
        except OSError:
            time.sleep(0.1)
    raise AssertionError("the service did not get ready")
