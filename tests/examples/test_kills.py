"""Processes that are killed between a push and a deployed model leave what an undisturbed play leaves.

All points are in `python -m examples.level2.kills`; here are six in one play: in the daemon, in CI, in a deployment
and in a training.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
POINTS = (
    "event is emitted",
    "job is claimed",
    "run is started",
    "step is written",
    "deployment is public",
    "route is written",
)


def test_kills_at_six_points_change_nothing(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMILL_")}
    played = subprocess.run(
        [sys.executable, "-m", "examples.level2.kills", "--together", "--points", *POINTS],
        cwd=ROOT,
        env=environment | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert played.returncode == 0, played.stdout + played.stderr
    assert "6 of 6 points: a process was killed there, and nothing differs" in played.stdout
