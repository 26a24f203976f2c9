"""kill -9 in the middle of a step: the ledger is consistent, and a rerun takes what was done."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tidemill.core.run import Run
from tidemill.store.ledger import Ledger

_RUN = """
import os, signal, sys
from pathlib import Path
import polars as pl
from tests.flow.kit import Mill
from tidemill.clock import SystemClock
from tidemill.core.pipeline import pipeline, step
from tidemill.core.resources import Journal, Tables

FOLDER = sys.argv[1]

@step
def load(rows: int) -> pl.DataFrame:
    return pl.DataFrame({"x": range(rows)})

@step
def keep(frame: pl.DataFrame, tables: Tables) -> int:
    return tables.append("rows", "batch", frame)

@step
def fit(frame: pl.DataFrame, version: int, folder: str) -> int:
    if not (Path(folder) / "mended").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return frame.height + version

@pipeline
def training() -> None:
    frame = load(100)
    fit(frame, keep(frame), FOLDER)

mill = Mill(Path(FOLDER), clock=SystemClock())
done = mill.run(training)
print(mill.states(done), mill.value(done, "fit"), mill.workspace.tables.read("rows", 0).height)
"""


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run(
        [sys.executable, "-c", _RUN, str(folder)], env=environment, capture_output=True, text=True, timeout=120
    )


def test_a_killed_run_leaves_what_was_done_and_a_rerun_takes_it(tmp_path: Path) -> None:
    assert run(tmp_path).returncode == -signal.SIGKILL
    books = Ledger(f"sqlite:///{tmp_path / 'state' / 'ledger.db'}")
    (killed,) = books.runs.find()
    assert isinstance(killed, Run)
    assert killed.state == "running"
    steps = {one.step: one for one in books.steps.find(run=killed.id)}
    assert {name: one.state for name, one in steps.items()} == {"load": "ran", "keep": "ran", "fit": "running"}
    for one in steps.values():
        for digest in one.outputs.values():
            assert books.artifacts.get(digest).digest == digest

    assert run(tmp_path).returncode == -signal.SIGKILL
    (tmp_path / "mended").touch()
    done = run(tmp_path)
    assert done.stderr == ""
    assert done.stdout == "{'load': 'cached', 'keep': 'ran', 'fit': 'ran'} b'100' 100\n"
