"""The time of CI on the flights project, and the part of it that is Tidemill's own.

The floor is the time of the processes that run the code of the commit (its tests, and the planning of its pipelines):
what is above it is the overhead of Tidemill. The warm runs use the environment that the first run made.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._report import Figure, Values, build_figure, print_results

_PROJECT = Path(__file__).parents[1] / "examples" / "flights"
FIGURES = (
    Figure("first build of the flights project", "s"),
    Figure("warm build of the flights project", "s", "≤ 60"),
    Figure("overhead of a warm build", "s", "≤ 5"),
    Figure("overhead of a warm build, processor time", "s"),
)


def measure(repeats: int) -> dict[str, dict[str, Any]]:
    """Build the flights project once without an environment, and then `repeats` times with it."""
    with tempfile.TemporaryDirectory(prefix="tidemill-benchmark-") as scratch:
        project, repository = Path(scratch) / "flights", Path(scratch) / "flights.git"
        shutil.copytree(_PROJECT, project, ignore=shutil.ignore_patterns(".tidemill", "__pycache__"))
        _run(project, sys.executable, "-m", "tidemill", "ci", "lock")
        identity = ("-c", "user.name=benchmark", "-c", "user.email=benchmark@example.com")
        for words in (("init", "-q", "-b", "main"), ("add", "-A"), (*identity, "commit", "-qm", "first")):
            _run(project, "git", *words)
        _run(project, "git", "clone", "-q", "--bare", ".", str(repository))
        first, *_ = _build(project, repository)
        warm = [_build(project, repository) for _ in range(repeats)]
    totals, inner, processor = ([run[index] for run in warm] for index in range(3))
    overhead: Values = [total - code for total, code in zip(totals, inner, strict=True)]
    none = "there is no floor"
    values: tuple[tuple[Values, Values], ...] = (
        ([first], none),
        (totals, inner),
        (overhead, none),
        (processor, none),
    )
    return {
        figure.name: build_figure(figure, ours, floor, {})
        for figure, (ours, floor) in zip(FIGURES, values, strict=True)
    }


def _build(project: Path, repository: Path) -> tuple[float, float, float]:
    """Return the seconds of a build, those of the code of the commit in it, and its own processor time."""
    before = time.perf_counter()
    words = ("ci", "run", "--remote", str(repository), "--force", "--json")
    program = (
        "import resource, sys; from tidemill.cli.main import main; code = main(sys.argv[1:]); "
        "used = resource.getrusage(resource.RUSAGE_SELF); print(used.ru_utime + used.ru_stime, file=sys.stderr); "
        "sys.exit(code)"
    )
    done = _run(project, sys.executable, "-c", program, *words)
    seconds = time.perf_counter() - before
    build = json.loads(done.stdout)
    listed = _run(project, sys.executable, "-m", "tidemill", "runs", "show", build["run"], "--json")
    verdicts = json.loads(listed.stdout)["verdicts"]
    inner = sum(verdict["evidence"].get("seconds", 0.0) for verdict in verdicts)
    return seconds, inner, float(done.stderr.strip().splitlines()[-1])


def _run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=os.environ, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:4])} failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done


def main() -> None:
    """Measure, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one warm build")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    results = measure(1 if options.quick else 5)
    print_results(FIGURES, results, as_json=options.json)


if __name__ == "__main__":
    main()
