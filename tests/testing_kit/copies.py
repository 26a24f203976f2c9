"""Runs the tests of a sound project and of its copies, each with one planted fault."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.testing_kit import running
from tests.testing_kit.faults import FAULTS, Fault

Results = dict[str, dict[str, Any]]
_ROWS = 1_000


def run_copies(make: Callable[[Path], Path], folder: Path) -> dict[str, Results]:
    """Return the results of each test, by the name of the fault; without a fault the name is empty."""
    sound = make(folder / "sound")
    conftest = sound / "tests" / "conftest.py"
    conftest.write_text(
        conftest.read_text() + f"\n\n@pytest.fixture(scope='session')\ndef sample_rows() -> int:\n    return {_ROWS}\n"
    )
    copies = {"": sound}
    for number, fault in enumerate(FAULTS):
        copies[fault.name] = folder / f"fault{number}" / sound.name
        shutil.copytree(sound, copies[fault.name], symlinks=True)
        fault.plant(copies[fault.name])
    process = subprocess.run(
        [sys.executable, str(Path(running.__file__)), *map(str, copies.values())],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    results = json.loads(process.stdout.splitlines()[-1])
    return {name: results[str(copy)] for name, copy in copies.items()}


def list_failures(results: Results) -> Results:
    """Return the tests that failed."""
    return {name: result for name, result in results.items() if result["outcome"] == "failed"}


def require_caught(results: Results, fault: Fault) -> None:
    """Require that tests of the fault's kind fail, no others, and that their messages name it."""
    failures = list_failures(results)
    messages = "\n".join(f"{name}: {failure['message']}" for name, failure in failures.items())
    assert failures, "no test failed"
    assert {kind for failure in failures.values() for kind in failure["kinds"]} == {fault.kind}, messages
    assert all(word in messages for word in fault.words), messages
