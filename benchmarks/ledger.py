"""A ledger with a million runs: lists, search, lineage and stories; and the writes of eight processes at once."""

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
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from benchmarks._report import Figure, build_figure, describe_machine, format_table
from tidemill.clock import uuid7
from tidemill.core.artifact import Artifact
from tidemill.core.run import Run, StepRun
from tidemill.evidence.run_details import read_run_details
from tidemill.evidence.search import search
from tidemill.ledger.ledger import Ledger

_FIRST_START = datetime(2020, 1, 1, tzinfo=UTC)
_BATCH = 20_000
_PROCESSES = 8
_PROMISE = "<= 100"
_PIPELINES = ("training", "watching", "ingestion", "materialization")
_STATES = ("done",) * 95 + ("stopped",) * 3 + ("failed", "interrupted")
_USERS = ("ada", "béla", "chen", "dora", "emil", "fatma", "george", "hana")
FIGURES = (
    Figure("the newest 20 runs", "ms", _PROMISE),
    Figure("20 failed runs of one pipeline", "ms", _PROMISE),
    Figure("20 runs in a rare state of a rare environment", "ms", _PROMISE),
    Figure("a page in the middle", "ms", _PROMISE),
    Figure("a word that one run has", "ms", _PROMISE),
    Figure("a word that all runs have", "ms", _PROMISE),
    Figure("two words that many runs have", "ms", _PROMISE),
    Figure("the beginning of a common word, a page deep inside", "ms", _PROMISE),
    Figure("a word that only the oldest fifth has", "ms", _PROMISE),
    Figure("a tag and a word", "ms", _PROMISE),
    Figure("a metric that few runs reach", "ms", _PROMISE),
    Figure("a metric that half of the runs reach", "ms", _PROMISE),
    Figure("a run by the beginning of its id", "ms", _PROMISE),
    Figure("the step with an artifact as output", "ms", _PROMISE),
    Figure("20 of many steps with an artifact as input", "ms", _PROMISE),
    Figure("the whole story of a run", "ms", _PROMISE),
    Figure("the pipelines of an environment", "ms", _PROMISE),
    Figure("transactions of runs with one step, 8 processes", "1/s", ">= 2,000"),
)


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def build_runs(number: int) -> Iterator[tuple[Run, tuple[StepRun, ...]]]:
    """Iterate over the runs of a team with their steps; a thousand runs share their rows."""
    chance = random.Random(7)
    for index in range(number):
        started = _FIRST_START + timedelta(seconds=150 * index)
        state = chance.choice(_STATES)
        run = Run(
            id=uuid7(started, chance.getrandbits(74)),
            pipeline=_PIPELINES[min(3, int(chance.expovariate(1)))],
            environment="production" if index % 1000 else "test",
            state=state,  # type: ignore[arg-type]
            started=started,
            seconds=chance.uniform(1, 200),
            model=f"model{index % 40}",
            params={"depth": index % 12, "rate": 0.05, "since": "2019-01-01"},
            cause={"by": "hand", "user": chance.choice(_USERS)} if index % 3 else {"trigger": "nightly"},
            code={"digest": _digest("code", index // 500), "commit": _digest("commit", index // 500)[:40]},
            software={"tidemill": "0.1.0", "lightgbm": "4.5.0", "numpy": "1.26.4", "polars": "1.20.0"},
            metrics={"test_log_loss": chance.gauss(0.5, 0.1), "test_roc_auc": chance.gauss(0.7, 0.05)},
            tags={
                "team": f"team{index % 25}",
                "ticket": f"T-{index // 7}",
                "host": "legacy" if index < number // 5 else "farm",
            },
            graph={"read": [], "fit": ["read"], "evaluate": ["fit"]},
            error="ValueError: the table flights has no column dep_delay" if state == "failed" else "",
        )
        rows, model, metrics = _digest("rows", index // 1000), _digest("model", index), _digest("found", index)
        steps = tuple(
            StepRun(
                id=uuid7(started + timedelta(seconds=position), chance.getrandbits(74)),
                run=run.id,
                step=name,
                position=position,
                state="ran",
                reason="first time with this code and these inputs",
                key=_digest("key", name, index),
                code=_digest(name),
                executor="inline",
                started=started,
                seconds=1.0,
                inputs=inputs,
                outputs=outputs,
            )
            for position, (name, inputs, outputs) in enumerate(
                (
                    ("fit", {"rows": rows}, {"model": model}),
                    ("evaluate", {"rows": rows, "model": model}, {"metrics": metrics}),
                )
            )
        )
        yield run, steps


def fill_ledger(ledger: Ledger, number: int) -> float:
    """Write runs and their steps; return the seconds."""
    started = time.perf_counter()
    for batch in _batches(build_runs(number)):
        with ledger.transaction() as connection:
            connection.execute("PRAGMA cache_size = -1000000")
            ledger.runs.add_all(run for run, _ in batch)
            ledger.steps.add_all(step for _, steps in batch for step in steps)
    return time.perf_counter() - started


def _batches(records: Iterable[Any]) -> Iterator[list[Any]]:
    remaining = iter(records)
    while batch := list(islice(remaining, _BATCH)):
        yield batch


def build_queries(ledger: Ledger, number: int) -> dict[str, Callable[[], Any]]:
    """Return the queries of users by the names of the figures."""
    books, middle = ledger.runs, uuid7(_FIRST_START + timedelta(seconds=150 * (number // 2)), 0)
    deep = uuid7(_FIRST_START + timedelta(seconds=150 * (number // 100)), 0)
    run = books.find(before=middle, newest=True, limit=1)[0]
    shared = _digest("rows", number // 2000)
    queries: tuple[Callable[[], Any], ...] = (
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
        lambda: books.get(run.id[:18]),
        lambda: ledger.steps.find(linked=f"out:{_digest('model', number // 2)}"),
        lambda: ledger.steps.find(linked=f"in:{shared}", newest=True, limit=20),
        lambda: read_run_details(ledger, run.id),
        lambda: books.values("pipeline", environment="production"),
    )
    return {figure.name: query for figure, query in zip(FIGURES, queries, strict=False)}


def time_query(query: Callable[[], Any], repeats: int) -> list[float]:
    """Return the milliseconds of each repeat."""
    durations = []
    for _ in range(repeats):
        started = time.perf_counter()
        query()
        durations.append((time.perf_counter() - started) * 1000)
    return durations


def build_floor_query(file: Path) -> Callable[[], Any]:
    """Return the query of the floor: twenty bodies by their ids, without the ledger."""
    connection = sqlite3.connect(file)
    return lambda: connection.execute("SELECT body FROM runs ORDER BY id DESC LIMIT 20").fetchall()


def _write(worker: int, url: str, number: int) -> int:
    """Write runs with one step each, as the engine does: four transactions for each run."""
    ledger = Ledger(url)
    chance = random.Random(worker)
    for run, (step, _) in build_runs(number):
        run_id, now = uuid7(run.started, chance.getrandbits(74)), run.started
        ledger.runs.add(replace(run, id=run_id, state="running", metrics={}))
        running = replace(step, id=uuid7(now, chance.getrandbits(74)), run=run_id, state="running", outputs={})
        ledger.steps.find(key=running.key, newest=True, limit=5)
        ledger.steps.add(running)
        output = _digest(worker, run_id)
        with ledger.transaction():
            ledger.artifacts.add(Artifact(id=output, kind="json", size=1))
            ledger.steps.change(running.id, partial(_finish, output=output))
        ledger.runs.change(run_id, lambda old: replace(old, state="done"))
    return 4 * number


def _finish(step: StepRun, output: str) -> StepRun:
    return replace(step, state="ran", outputs={"out": output})


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


def measure_writes(write: Callable[[int, str, int], int], number: int, repeats: int) -> list[float]:
    """Return the transactions per second of eight processes; raise `AssertionError` if a run is missing."""
    rates = []
    with ProcessPoolExecutor(_PROCESSES, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(len, ["warm"] * 64))
        for _ in range(repeats):
            with tempfile.TemporaryDirectory() as folder:
                url = f"sqlite:///{folder}/ledger.db"
                write(_PROCESSES, url, 1)
                started = time.perf_counter()
                done = sum(pool.map(write, range(_PROCESSES), [url] * _PROCESSES, [number] * _PROCESSES))
                rates.append(done / (time.perf_counter() - started))
                if write is _write:
                    stored = Ledger(url).runs.find(state="done")
                    assert len(stored) == _PROCESSES * number + 1, f"{len(stored)} runs were stored"
    return rates


def measure(number: int, repeats: int, runs_per_process: int) -> dict[str, dict[str, Any]]:
    """Return all figures by name."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.db"
        ledger = Ledger(f"sqlite:///{file}")
        seconds = fill_ledger(ledger, number)
        size = file.stat().st_size / 2**20
        print(f"wrote {number:,} runs with 2 steps each in {seconds:.0f} s: {size:,.0f} MiB", flush=True)
        queries, floor = build_queries(ledger, number), time_query(build_floor_query(file), repeats)
        results = {
            figure.name: build_figure(figure, time_query(queries[figure.name], repeats), floor, {})
            for figure in FIGURES
            if figure.name in queries
        }
        ledger.close()
    write_figure = FIGURES[-1]
    results[write_figure.name] = build_figure(
        write_figure,
        measure_writes(_write, runs_per_process, repeats),
        measure_writes(_write_bare, runs_per_process, repeats),
        {},
    )
    return results


def main() -> None:
    """Measure, and print a table or one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="50,000 runs instead of a million: within a minute")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    results = measure(50_000, 3, 60) if options.quick else measure(1_000_000, 5, 500)
    if options.json:
        print(json.dumps(results, indent=2))
    else:
        print(f"\n{describe_machine()}\n\n{format_table(FIGURES, results)}")


if __name__ == "__main__":
    main()
