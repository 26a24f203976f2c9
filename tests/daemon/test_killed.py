"""kill -9 of the daemon at any instant: each cause has exactly one run, which ends."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
KILLS = 100
POINTS = [
    "event is told",
    "job is written",
    "job is kept",
    "job is claimed",
    "worker is begun",
    "job is settled",
    "job is written#2",
    "job is kept#2",
]


def test_killed_a_hundred_times_each_cause_has_exactly_one_run(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.daemon.killing", str(tmp_path / "kit"), str(KILLS), "1", *POINTS]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    found = json.loads(done.stdout)
    assert found["problems"] == [], found
    assert found["kills"] == KILLS + len(POINTS)
    assert found["told"] >= KILLS // 2
    assert set(found["jobs"]) == {"tick", "drift", "trained", "data", "visit", "hand"}
