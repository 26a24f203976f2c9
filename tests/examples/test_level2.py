"""The example from a push to production runs as described, with real processes."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_every_act_of_the_example_goes_as_described(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TIDEMILL_")}
    played = subprocess.run(
        [sys.executable, "-m", "examples.level2.run", "--folder", str(tmp_path / "level2")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert played.returncode == 0, played.stdout + played.stderr
    for passage in (
        "test: build 1 serves at http://127.0.0.1:",
        "0 of 1 approvals of people who did not write it",
        "1 of 2 successful runs of training in preproduction",
        "serves production at http://127.0.0.1:",
        "promoted: ",
        "test_features_are_finite",
        "scikit-learn 1.9.1 → 1.8.0" if _has_release("scikit-learn", "1.9.1") else "scikit-learn",
        "serves model flights again",
        "of branch main, by ada@example.org, pushed by ada",
        "mai approved build for production: two good runs",
    ):
        assert passage in played.stdout, f"{passage}\n{played.stdout}"
    assert not (tmp_path / "level2").exists()


def _has_release(package: str, version: str) -> bool:
    from importlib.metadata import version as find_version

    return find_version(package) == version
