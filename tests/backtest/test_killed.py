"""A backtest that is killed: its replays, which can take hours, end with it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.projects import make_project
from tests.serving.kit import until

_LASTING = """
import multiprocessing, time
if multiprocessing.parent_process() is not None:
    time.sleep(3600)
"""


def _list_marked(mark: str) -> list[Path]:
    """Return the processes that have a mark in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (process / "environ").read_bytes():
                found.append(process)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGTERM])
def test_the_replays_of_a_killed_backtest_end(way: signal.Signals, tmp_path: Path) -> None:
    make_project(tmp_path / "shop")
    with (tmp_path / "shop" / "pipeline.py").open("a") as file:
        file.write(_LASTING)
    mark = f"TEST_MARK={tmp_path}\0"
    name, value = mark.removesuffix("\0").split("=")
    command = subprocess.Popen(
        [sys.executable, "-m", "tidemill", "backtest"],
        cwd=tmp_path / "shop",
        env=os.environ | {name: value},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    # The command, a tracker of resources, a server of forks, and at least one replay.
    until(lambda: len(_list_marked(mark)) >= 4 or command.poll() is not None)
    assert command.poll() is None
    command.send_signal(way)
    command.wait()
    until(lambda: not _list_marked(mark))
