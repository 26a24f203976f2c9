"""kill -9 at any time in a run: no committed record is lost, no artifact is incomplete, and the run is resumed."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
KILLS = 100
# The named points of a run; `#2` is the second time that a run reaches the point.
POINTS = [
    "run is alive",
    "run is started",
    "steps are resolved",
    "transaction begins",
    "transaction is written",
    "transaction is committed",
    "step is handed over",
    "arguments are loaded",
    "step has run",
    "blob is drafted",
    "blob is stored",
    "output is stored",
    "output is stored#2",
    "outcome is received",
    "outcome is received#3",
    "artifacts are written#2",
    "step is written",
    "verdict is written",
    "metrics are written#3",
    "release is registered",
    "route is written",
    "route is published",
    "run closes",
    "run's end is written",
    "run is finished",
]


def killing(folder: Path, kills: int, seed: int, *points: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "tests.flow.crashing", str(folder), str(kills), str(seed), *points]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(running: subprocess.Popen[str]) -> dict[str, Any]:
    printed, message = running.communicate(timeout=600)
    assert running.returncode == 0, message
    found: dict[str, Any] = json.loads(printed)
    assert found["problems"] == [], message[-4000:]
    return found


def test_run_killed_at_random_times_is_resumed(tmp_path: Path) -> None:
    both = [killing(tmp_path / str(seed), KILLS, seed) for seed in (1, 2)]
    counts = [result(process)["found"] for process in both]
    assert sum(count["interrupted"] + count.get("done", 0) for count in counts) == 2 * KILLS
    assert sum(count["interrupted"] for count in counts) > KILLS


def test_run_killed_at_every_named_point_is_resumed(tmp_path: Path) -> None:
    found = result(killing(tmp_path, 0, 3, *POINTS))["found"]
    assert found == {"nothing": 1, "interrupted": len(POINTS) - 2, "done": 1}
