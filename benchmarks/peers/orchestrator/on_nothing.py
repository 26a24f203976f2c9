"""The floor: the same work with files and SQLite only; no orchestrator can be much faster."""

import hashlib
import json
import os
import pickle
import sqlite3
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.peers.orchestrator import work

_ROWS = """
CREATE TABLE IF NOT EXISTS steps (id INTEGER PRIMARY KEY, key TEXT, digest TEXT, body TEXT);
CREATE INDEX IF NOT EXISTS by_key ON steps (key);
"""


@cache
def ledger() -> sqlite3.Connection:
    connection = sqlite3.connect("floor.db", isolation_level=None, timeout=60)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.executescript(_ROWS)
    return connection


def store(content: bytes) -> str:
    """Write a file named by its digest, atomically and once; return the digest."""
    digest = hashlib.sha256(content).hexdigest()
    file = Path("blobs", digest[:2], digest)
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_suffix(f".{os.getpid()}")
        draft.write_bytes(content)
        draft.rename(file)
    return digest


def record(key: str, digest: str) -> None:
    """Write the four rows of a step in one transaction."""
    ledger().execute("BEGIN IMMEDIATE")
    ledger().executemany("INSERT INTO steps (key, digest, body) VALUES (?, ?, ?)", [(key, digest, "x" * 300)] * 4)
    ledger().execute("COMMIT")


def chain(length: int) -> None:
    state = {"number": 0}
    for position in range(length):
        state = work.no_op(state)
        record(str(position), store(json.dumps(state).encode()))


@cache
def pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(2, mp_context=get_context("forkserver"))


def chain_in_pool(length: int) -> None:
    state = {"number": 0}
    for position in range(length):
        state = pool().submit(work.no_op, state).result()
        record(str(position), store(json.dumps(state).encode()))


def transactions(length: int) -> None:
    for position in range(length):
        record(str(position), "")


def count() -> int:
    return int(ledger().execute("SELECT count(*) FROM steps").fetchone()[0]) // 4


def run_cached(name: str, function: Any, *inputs: str) -> str:
    """Return the digest of a step's output: the stored one for the same inputs, or that of a new execution."""
    key = " ".join((name, *inputs))
    row = ledger().execute("SELECT digest FROM steps WHERE key = ?", (key,)).fetchone()
    if row and Path("blobs", row[0][:2], row[0]).exists():
        return str(row[0])
    output = function(*(pickle.loads(Path("blobs", digest[:2], digest).read_bytes()) for digest in inputs))
    digest = store(pickle.dumps(output, protocol=5))
    record(key, digest)
    return digest


def train() -> None:
    frame = run_cached("load", work.load)
    parts = run_cached("split", work.split, frame, run_cached("validate", work.validate, frame))
    model = run_cached("train", lambda pair: work.train(pair[0]), parts)
    metrics = run_cached("evaluate", lambda booster, pair: work.evaluate(booster, pair[1]), model, parts)
    run_cached("register", work.register, model, metrics)


if __name__ == "__main__":
    chains: dict[str, work.Chain | str] = {"inline": chain, "processes": chain_in_pool, "transactions": transactions}
    work.drive(chains, train=train, resume=train, count=count)
