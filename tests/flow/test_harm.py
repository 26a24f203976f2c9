"""What a run does when the ground gives way: a full disk, a process that ends itself."""

import os
import subprocess
import sys
from pathlib import Path

from tests.flow.kit import Mill
from tidemill.clock import SystemClock
from tidemill.flow.engine import resume, sweep

ROOT = Path(__file__).parents[2]
CODE = """
import os
from pathlib import Path

from tidemill import pipeline, step

@step
def load() -> int:
    return 3

@step
def grow(number: int) -> bytes:
    return os.urandom(1_000_000 * number)

@step
def leave(number: int) -> int:
    if os.environ.get("LEAVES"):
        os._exit(7)
    return number

@pipeline
def growing() -> None:
    grow(load())

@pipeline
def leaving() -> None:
    leave(load())
"""
RUN = """
import resource, sys
from pathlib import Path
from tests.flow.kit import Mill
from tidemill.clock import SystemClock

mill = Mill(Path(sys.argv[1]), clock=SystemClock())
code = mill.session.project.code.pipeline(sys.argv[2])
if sys.argv[3:]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
run, error = mill.try_to_run(code)
print(run.state, error)
"""


def run_in_process(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    (folder / "pipeline.py").write_text(CODE)
    return subprocess.run(
        [sys.executable, "-c", RUN, str(folder), *words],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_full_disk_fails_the_step_and_the_run_continues_when_there_is_space(tmp_path: Path) -> None:
    full = run_in_process(tmp_path, "growing", "2000000")
    assert full.returncode == 0, full.stderr
    assert full.stdout.startswith("failed")
    assert "free some space" in full.stdout
    mill = Mill(tmp_path, clock=SystemClock())
    (left,) = mill.books.runs.find()
    assert mill.states(left) == {"load": "ran", "grow": "failed"}
    done, error = resume(mill.session, left.id)
    assert (error, done.state) == (None, "done")
    assert mill.states(done) == {"load": "ran", "grow": "ran"}


def test_a_step_that_ends_the_process_of_its_run_is_found_out(tmp_path: Path) -> None:
    assert run_in_process(tmp_path, "leaving", LEAVES="1").returncode == 7
    mill = Mill(tmp_path, clock=SystemClock())
    (swept,) = sweep(mill.session)
    assert (swept.state, swept.error) == ("interrupted", "its process died")
    assert mill.states(swept) == {"load": "ran", "leave": "interrupted"}
    done, error = resume(mill.session, swept.id)
    assert (error, done.state, len(done.attempts)) == (None, "done", 1)
    assert sweep(mill.session) == []
