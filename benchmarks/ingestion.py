"""The speed of ingesting many small files, and what a kill in the middle costs.

The floor reads each file with `polars.read_csv`, without checking or recording it, and appends all rows at once.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import polars as pl
from deltalake import write_deltalake

from benchmarks._report import Figure, Values, build_figure, print_results
from tidemill.compose.session import open_session
from tidemill.flow.engine import resume
from tidemill.project.project import Project

FIGURES = (
    Figure("small files ingested, wall", "1/s", ">= 200"),
    Figure("small files ingested, processor time", "1/s", ">= 200"),
    Figure("processor time of one more file", "ms"),
    Figure("peak memory", "MB"),
    Figure("files that are judged again after a kill", "of all", "0"),
)
_POLICY = (
    '[project]\nname = "small_files"\n[sources.rows]\npath = "data/*.csv"\nkey = ["id"]\n'
    '[problem]\ndecision = "none"\nsource = "rows"\nlabel = "late"\n'
)
_PROGRAM = (
    "import resource, sys; from tidemill.cli.main import main; code = main(['run', 'ingestion']); "
    "used = resource.getrusage(resource.RUSAGE_SELF); "
    "print(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, file=sys.stderr); sys.exit(code)"
)
_FEW = 100


def write_project(folder: Path, files: int) -> Path:
    """Write a project whose source has this many files of three rows and five columns."""
    (folder / "data").mkdir(parents=True)
    (folder / "tidemill.toml").write_text(_POLICY)
    (folder / "pipeline.py").write_text("from tidemill.recipes import ingestion\n")
    for number in range(files):
        rows = [f"{3 * number + row},2026-03-01T12:0{row}:00,AA,{row}.25,{row % 2}" for row in range(3)]
        content = "\n".join(["id,departure,carrier,distance,late", *rows, ""])
        (folder / "data" / f"{number:06}.csv").write_text(content)
    return folder


def ingest(folder: Path, fault: str = "") -> tuple[float, float, float] | None:
    """Run an ingestion in a process; return its seconds, its processor time and its memory, None if it is killed."""
    before = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM],
        cwd=folder,
        env=os.environ | ({"TIDEMILL_FAULT": fault} if fault else {}),
        capture_output=True,
        text=True,
        check=False,
    )
    if fault and done.returncode < 0:
        return None
    if done.returncode:
        raise SystemExit(f"the ingestion failed: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    processor, memory = map(float, done.stderr.strip().splitlines()[-1].split())
    return time.perf_counter() - before, processor, memory


def count_judged_again(folder: Path, files: int) -> float:
    """Kill an ingestion after half of its files, run it to its end, and return how many files have two verdicts."""
    pieces = max(files // 2 // 256, 1)
    if ingest(folder, f"piece is recorded#{pieces}") is not None:
        raise SystemExit("the ingestion was not killed")
    session = open_session(Project(folder))
    workspace = session.workspace
    (killed,) = workspace.ledger.runs.find(pipeline="ingestion")
    resume(session, killed.id)
    verdicts = workspace.ledger.verdicts.find(check="schema")
    rows = workspace.tables.read("rows", workspace.tables.version("rows"), ["id"])
    if rows.height != 3 * files or rows["id"].n_unique() != rows.height:
        raise SystemExit(f"{rows.height} rows were ingested instead of {3 * files}")
    return float(len(verdicts) - len({verdict.subject for verdict in verdicts}))


def measure_floor(folder: Path, files: int) -> tuple[float, float]:
    """Return the seconds and the processor time of reading the files and writing one table."""
    wall, processor = time.perf_counter(), time.process_time()
    frames = [pl.read_csv(file) for file in sorted((folder / "data").iterdir())]
    write_deltalake(str(folder / "floor"), pl.concat(frames))
    return files / (time.perf_counter() - wall), files / (time.process_time() - processor)


def measure(files: int, repeats: int) -> dict[str, dict[str, Any]]:
    """Ingest a folder of files, a few files, and a folder with a kill."""
    values: dict[str, list[float]] = {figure.name: [] for figure in FIGURES}
    floors: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="tidemill-benchmark-") as scratch:
        for repeat in range(repeats):
            folder = write_project(Path(scratch) / f"{repeat}", files)
            floor = measure_floor(folder, files)
            used, few = ingest(folder), ingest(write_project(Path(scratch) / f"{repeat}-few", _FEW))
            assert used is not None
            assert few is not None
            measured = (
                files / used[0],
                files / used[1],
                1000 * (used[1] - few[1]) / (files - _FEW),
                used[2],
                count_judged_again(write_project(Path(scratch) / f"{repeat}-killed", files), files),
            )
            for figure, value in zip(FIGURES, measured, strict=True):
                values[figure.name].append(value)
            for figure, value in zip(FIGURES, floor, strict=False):
                floors.setdefault(figure.name, []).append(value)
    none: Values = "there is no floor"
    return {
        figure.name: build_figure(figure, values[figure.name], floors.get(figure.name, none), {}) for figure in FIGURES
    }


def main() -> None:
    """Measure, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000, help="the number of files")
    parser.add_argument("--quick", action="store_true", help="1,000 files, once")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    results = measure(1_000, 1) if options.quick else measure(options.files, 3)
    print_results(FIGURES, results, as_json=options.json)


if __name__ == "__main__":
    main()
