"""kill -9 at any instant of a run: nothing acknowledged is lost, no artifact is half there, and the run goes on."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
KILLS = 100
# Every point of a run that has a name; `#2` is the second time that it is come to.
POINTS = [
    "run is alive",
    "run is begun",
    "steps are settled",
    "boundary begins",
    "boundary is written",
    "boundary is kept",
    "step is handed over",
    "arguments are here",
    "step has run",
    "blob is drafted",
    "blob is placed",
    "output is kept",
    "output is kept#2",
    "outcome is here",
    "outcome is here#3",
    "artifacts are written#2",
    "step is written",
    "verdict is written",
    "metrics are written#3",
    "release is registered",
    "route is written",
    "route is published",
    "run closes",
    "run's end is written",
    "run is over",
]


def killing(folder: Path, kills: int, seed: int, *points: str) -> subprocess.Popen[str]:
    words = [sys.executable, "-m", "tests.flow.crashing", str(folder), str(kills), str(seed), *points]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def result(running: subprocess.Popen[str]) -> dict[str, Any]:
    printed, said = running.communicate(timeout=600)
    assert running.returncode == 0, said
    found: dict[str, Any] = json.loads(printed)
    assert found["problems"] == [], said[-4000:]
    return found


def test_killed_at_random_instants_a_run_goes_on(tmp_path: Path) -> None:
    both = [killing(tmp_path / str(seed), KILLS, seed) for seed in (1, 2)]
    found = [result(one)["found"] for one in both]
    assert sum(one["interrupted"] + one.get("done", 0) for one in found) == 2 * KILLS
    assert sum(one["interrupted"] for one in found) > KILLS


def test_killed_at_every_named_point_a_run_goes_on(tmp_path: Path) -> None:
    found = result(killing(tmp_path, 0, 3, *POINTS))["found"]
    assert found == {"nothing": 1, "interrupted": len(POINTS) - 2, "done": 1}
