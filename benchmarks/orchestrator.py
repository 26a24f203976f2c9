"""What a step costs beside its work: ours, and the floor of a bare SQLite transaction, in one run."""

import argparse
import json
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tidemill.core.pipeline import Pipeline, pipeline, step
from tidemill.daemon.compose import open_session
from tidemill.flow.engine import run
from tidemill.flow.session import Session
from tidemill.project.project import Project

_POLICY = '[project]\nname = "bench"\n'


@step(cache=False)
def pass_on(number: int) -> int:
    """Do nothing."""
    return number + 1


def chain(length: int) -> Pipeline:
    """A pipeline of so many steps, each on the one before."""

    @pipeline
    def steps() -> None:
        number = 0
        for _ in range(length):
            number = pass_on(number)

    return steps


def seconds_of(session: Session, length: int) -> float:
    """How long one run of a chain takes."""
    began = time.perf_counter()
    _, failed = run(session, chain(length))
    assert failed is None, failed
    return time.perf_counter() - began


def per_step(repeats: int) -> list[float]:
    """Milliseconds a step, by the slope from 5 to 50 steps."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tidemill.toml").write_text(_POLICY)
        session = open_session(Project(Path(folder)))
        seconds_of(session, 5)
        return [(seconds_of(session, 50) - seconds_of(session, 5)) / 45 * 1000 for _ in range(repeats)]


def floor(repeats: int) -> list[float]:
    """Milliseconds of one SQLite transaction with a step's four rows, write-ahead log, synchronous=NORMAL."""
    with tempfile.TemporaryDirectory() as folder:
        connection = sqlite3.connect(Path(folder) / "floor.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute("CREATE TABLE facts (id INTEGER PRIMARY KEY, body TEXT)")
        found = []
        for _ in range(repeats):
            began = time.perf_counter()
            for _ in range(200):
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany("INSERT INTO facts (body) VALUES (?)", [("x" * 300,)] * 4)
                connection.execute("COMMIT")
            found.append((time.perf_counter() - began) / 200 * 1000)
        return found


def import_time(code: str, repeats: int) -> list[float]:
    """Milliseconds of a fresh interpreter that runs `code`."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        subprocess.run((sys.executable, "-c", code), check=True)
        found.append((time.perf_counter() - began) * 1000)
    return found


def figure(ours: list[float], bare: list[float], unit: str) -> dict[str, Any]:
    """One figure with its floor: medians, and their ratio."""
    mine, least = statistics.median(ours), statistics.median(bare)
    return {"ours": mine, "floor": least, "peers": {}, "ratio": mine / least, "unit": unit, "repeats": len(ours)}


def main() -> None:
    """Measure, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="end within a minute")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    repeats = 3 if options.quick else 7
    figures = {
        "a step in process": figure(per_step(repeats), floor(repeats), "ms"),
        "import tidemill": figure(import_time("import tidemill", repeats), import_time("pass", repeats), "ms"),
    }
    if options.json:
        print(json.dumps(figures, indent=2))
        return
    for name, found in figures.items():
        print(
            f"{name:20} {found['ours']:8.2f} {found['unit']}   floor {found['floor']:8.2f}   ratio {found['ratio']:.1f}"
        )


if __name__ == "__main__":
    main()
