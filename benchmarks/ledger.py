"""A ledger of a million runs: lists, search, lineage and stories; and what eight processes write at once."""

import argparse
import hashlib
import json
import multiprocessing
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from benchmarks._report import Figure, assembled, machine, table
from tidemill.clock import uuid7
from tidemill.core.artifact import Artifact
from tidemill.core.run import Run, StepRun
from tidemill.evidence.run_details import read_run_details
from tidemill.evidence.search import search
from tidemill.ledger.ledger import Ledger

_BEGAN = datetime(2020, 1, 1, tzinfo=UTC)
_AT_ONCE = 20_000
_PROCESSES = 8
_LISTED = "<= 100"
_PIPELINES = ("training", "watching", "ingestion", "materialization")
_STATES = ("done",) * 95 + ("stopped",) * 3 + ("failed", "interrupted")
_USERS = ("ada", "béla", "chen", "dora", "emil", "fatma", "george", "hana")
FIGURES = (
    Figure("the newest 20 runs", "ms", _LISTED),
    Figure("20 failed runs of one pipeline", "ms", _LISTED),
    Figure("20 runs in a rare state of a rare environment", "ms", _LISTED),
    Figure("a page in the middle", "ms", _LISTED),
    Figure("a word that one run has", "ms", _LISTED),
    Figure("a word that all runs have", "ms", _LISTED),
    Figure("two words that many runs have", "ms", _LISTED),
    Figure("the beginning of a common word, a page deep inside", "ms", _LISTED),
    Figure("a word that only the oldest fifth has", "ms", _LISTED),
    Figure("a tag and a word", "ms", _LISTED),
    Figure("a metric that few runs reach", "ms", _LISTED),
    Figure("a metric that half of the runs reach", "ms", _LISTED),
    Figure("a run by the beginning of its id", "ms", _LISTED),
    Figure("the step that gave an artifact", "ms", _LISTED),
    Figure("20 steps of the many that took an artifact", "ms", _LISTED),
    Figure("the whole story of a run", "ms", _LISTED),
    Figure("the pipelines of an environment", "ms", _LISTED),
    Figure("transactions of runs with one step, 8 processes", "1/s", ">= 2,000"),
)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def runs(number: int) -> Iterator[tuple[Run, tuple[StepRun, ...]]]:
    """Runs of a team over the years, with the steps of each: every thousand of them share their rows."""
    chance = random.Random(7)
    for place in range(number):
        began = _BEGAN + timedelta(seconds=150 * place)
        state = chance.choice(_STATES)
        run = Run(
            id=uuid7(began, chance.getrandbits(74)),
            pipeline=_PIPELINES[min(3, int(chance.expovariate(1)))],
            environment="production" if place % 1000 else "test",
            state=state,  # type: ignore[arg-type]
            started=began,
            seconds=chance.uniform(1, 200),
            model=f"model{place % 40}",
            params={"depth": place % 12, "rate": 0.05, "since": "2019-01-01"},
            cause={"by": "hand", "user": chance.choice(_USERS)} if place % 3 else {"trigger": "nightly"},
            code={"digest": _digest("code", place // 500), "commit": _digest("commit", place // 500)[:40]},
            software={"tidemill": "0.1.0", "lightgbm": "4.5.0", "numpy": "1.26.4", "polars": "1.20.0"},
            metrics={"test_log_loss": chance.gauss(0.5, 0.1), "test_roc_auc": chance.gauss(0.7, 0.05)},
            tags={
                "team": f"team{place % 25}",
                "ticket": f"T-{place // 7}",
                "host": "legacy" if place < number // 5 else "farm",
            },
            graph={"read": [], "fit": ["read"], "evaluate": ["fit"]},
            error="ValueError: the table flights has no column dep_delay" if state == "failed" else "",
        )
        rows, model, found = _digest("rows", place // 1000), _digest("model", place), _digest("found", place)
        steps = tuple(
            StepRun(
                id=uuid7(began + timedelta(seconds=position), chance.getrandbits(74)),
                run=run.id,
                step=name,
                position=position,
                state="ran",
                reason="first time with this code and these inputs",
                key=_digest("key", name, place),
                code=_digest(name),
                executor="inline",
                started=began,
                seconds=1.0,
                inputs=inputs,
                outputs=outputs,
            )
            for position, (name, inputs, outputs) in enumerate(
                (
                    ("fit", {"rows": rows}, {"model": model}),
                    ("evaluate", {"rows": rows, "model": model}, {"metrics": found}),
                )
            )
        )
        yield run, steps


def make(ledger: Ledger, number: int) -> float:
    """Write so many runs and their steps; returns the seconds."""
    began = time.perf_counter()
    for some in _batches(runs(number)):
        with ledger.transaction() as connection:
            connection.execute("PRAGMA cache_size = -1000000")
            ledger.runs.add_all(run for run, _ in some)
            ledger.steps.add_all(step for _, steps in some for step in steps)
    return time.perf_counter() - began


def _batches(records: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(records)
    while some := list(islice(rest, _AT_ONCE)):
        yield some


def questions(ledger: Ledger, number: int) -> dict[str, Callable[[], Any]]:
    """What a user asks of it, by the figure's name."""
    books, middle = ledger.runs, uuid7(_BEGAN + timedelta(seconds=150 * (number // 2)), 0)
    deep = uuid7(_BEGAN + timedelta(seconds=150 * (number // 100)), 0)
    some = books.find(before=middle, newest=True, limit=1)[0]
    shared = _digest("rows", number // 2000)
    asked: tuple[Callable[[], Any], ...] = (
        lambda: books.find(newest=True, limit=20),
        lambda: books.find(newest=True, limit=20, state="failed", pipeline="materialization"),
        lambda: books.find(newest=True, limit=20, state="interrupted", environment="test"),
        lambda: books.find(newest=True, limit=20, before=middle),
        lambda: search(books, text=f"T-{number // 14}", limit=20),
        lambda: search(books, text="depth", limit=20),
        lambda: search(books, text="béla stopped", limit=20),
        lambda: search(books, text="train", limit=20, before=deep),
        lambda: search(books, text="legacy", limit=20),
        lambda: search(books, text="dep_delay", tag="team=team7", limit=20),
        lambda: search(books, metric="test_log_loss<0.1", limit=20),
        lambda: search(books, metric="test_log_loss<0.5", limit=20),
        lambda: books.get(some.id[:18]),
        lambda: ledger.steps.find(linked=f"out:{_digest('model', number // 2)}"),
        lambda: ledger.steps.find(linked=f"in:{shared}", newest=True, limit=20),
        lambda: read_run_details(ledger, some.id),
        lambda: books.values("pipeline", environment="production"),
    )
    return {figure.name: ask for figure, ask in zip(FIGURES, asked, strict=False)}


def milliseconds(ask: Callable[[], Any], repeats: int) -> list[float]:
    """How long each of several repeats takes."""
    found = []
    for _ in range(repeats):
        began = time.perf_counter()
        ask()
        found.append((time.perf_counter() - began) * 1000)
    return found


def bare_read(file: Path) -> Callable[[], Any]:
    """The floor of a question: twenty bodies by their ids, without the ledger."""
    connection = sqlite3.connect(file)
    return lambda: connection.execute("SELECT body FROM runs ORDER BY id DESC LIMIT 20").fetchall()


def _write(place: int, url: str, number: int) -> int:
    """Write runs with one step each, as the engine does: four transactions a run."""
    ledger = Ledger(url)
    chance = random.Random(place)
    for run, (step, _) in runs(number):
        run_id, now = uuid7(run.started, chance.getrandbits(74)), run.started
        ledger.runs.add(replace(run, id=run_id, state="running", metrics={}))
        begun = replace(step, id=uuid7(now, chance.getrandbits(74)), run=run_id, state="running", outputs={})
        ledger.steps.find(key=begun.key, newest=True, limit=5)
        ledger.steps.add(begun)
        given = _digest(place, run_id)
        with ledger.transaction():
            ledger.artifacts.add(Artifact(id=given, kind="json", size=1))
            ledger.steps.change(begun.id, lambda old, given=given: replace(old, state="ran", outputs={"out": given}))  # type: ignore[misc]
        ledger.runs.change(run_id, lambda old: replace(old, state="done"))
    return 4 * number


def _write_bare(_: int, url: str, number: int) -> int:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), timeout=60, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("CREATE TABLE IF NOT EXISTS facts (id INTEGER PRIMARY KEY, body TEXT)")
    for _ in range(4 * number):
        connection.execute("BEGIN IMMEDIATE")
        connection.executemany("INSERT INTO facts (body) VALUES (?)", [("x" * 300,)] * 2)
        connection.execute("COMMIT")
    return 4 * number


def written_together(write: Callable[[int, str, int], int], number: int, repeats: int) -> list[float]:
    """Transactions a second of eight processes; raises `AssertionError` where a run was lost."""
    found = []
    with ProcessPoolExecutor(_PROCESSES, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(len, ["warm"] * 64))
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as folder:
                url = f"sqlite:///{folder}/ledger.db"
                write(_PROCESSES, url, 1)
                began = time.perf_counter()
                done = sum(pool.map(write, range(_PROCESSES), [url] * _PROCESSES, [number] * _PROCESSES))
                found.append(done / (time.perf_counter() - began))
                if write is _write:
                    kept = Ledger(url).runs.find(state="done")
                    assert len(kept) == _PROCESSES * number + 1, f"{len(kept)} runs were kept"
    return found


def measured(number: int, repeats: int, each: int) -> dict[str, dict[str, Any]]:
    """All figures, by name."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.db"
        ledger = Ledger(f"sqlite:///{file}")
        seconds = make(ledger, number)
        size = file.stat().st_size / 2**20
        print(f"made {number:,} runs with 2 steps each in {seconds:.0f} s: {size:,.0f} MiB", flush=True)
        asked, floor = questions(ledger, number), milliseconds(bare_read(file), repeats)
        found = {
            figure.name: assembled(figure, milliseconds(asked[figure.name], repeats), floor, {})
            for figure in FIGURES
            if figure.name in asked
        }
        ledger.close()
    together = FIGURES[-1]
    found[together.name] = assembled(
        together, written_together(_write, each, repeats), written_together(_write_bare, each, repeats), {}
    )
    return found


def main() -> None:
    """Measure, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="50,000 runs instead of a million: within a minute")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    found = measured(50_000, 3, 60) if options.quick else measured(1_000_000, 5, 500)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"\n{machine()}\n\n{table(FIGURES, found)}")


if __name__ == "__main__":
    main()
