"""kill -9 of the daemon at any time: each cause has exactly one run, which finishes."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
KILLS = 100
POINTS = [
    "event is emitted",
    "job is written",
    "job is committed",
    "job is claimed",
    "worker is started",
    "job is settled",
    "job is written#2",
    "job is committed#2",
]


def test_killed_a_hundred_times_each_cause_has_exactly_one_run(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "tests.daemon.killing", str(tmp_path / "kit"), str(KILLS), "1", *POINTS]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    outcome = json.loads(done.stdout)
    assert outcome["problems"] == [], outcome
    assert outcome["kills"] == KILLS + len(POINTS)
    assert outcome["causes"] >= KILLS // 2
    assert set(outcome["jobs"]) == {"tick", "drift", "trained", "data", "visit", "hand"}
