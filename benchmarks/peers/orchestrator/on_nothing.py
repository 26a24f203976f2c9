"""The floor: the same work with files and SQLite alone, what no orchestrator can be quicker than by much."""

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


def keep(content: bytes) -> str:
    """A file by its digest, written once and whole."""
    digest = hashlib.sha256(content).hexdigest()
    place = Path("blobs", digest[:2], digest)
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        half = place.with_suffix(f".{os.getpid()}")
        half.write_bytes(content)
        half.rename(place)
    return digest


def record(key: str, digest: str) -> None:
    """A step's four rows, in one transaction."""
    ledger().execute("BEGIN IMMEDIATE")
    ledger().executemany("INSERT INTO steps (key, digest, body) VALUES (?, ?, ?)", [(key, digest, "x" * 300)] * 4)
    ledger().execute("COMMIT")


def chain(length: int) -> None:
    state = {"number": 0}
    for position in range(length):
        state = work.no_op(state)
        record(str(position), keep(json.dumps(state).encode()))


@cache
def pool() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(2, mp_context=get_context("forkserver"))


def chain_in_pool(length: int) -> None:
    state = {"number": 0}
    for position in range(length):
        state = pool().submit(work.no_op, state).result()
        record(str(position), keep(json.dumps(state).encode()))


def transactions(length: int) -> None:
    for position in range(length):
        record(str(position), "")


def count() -> int:
    return int(ledger().execute("SELECT count(*) FROM steps").fetchone()[0]) // 4


def remember(name: str, function: Any, *inputs: str) -> str:
    """A step's digest: of what it gave before for the same inputs, or of what it gives now."""
    key = " ".join((name, *inputs))
    found = ledger().execute("SELECT digest FROM steps WHERE key = ?", (key,)).fetchone()
    if found and Path("blobs", found[0][:2], found[0]).exists():
        return str(found[0])
    given = function(*(pickle.loads(Path("blobs", digest[:2], digest).read_bytes()) for digest in inputs))
    digest = keep(pickle.dumps(given, protocol=5))
    record(key, digest)
    return digest


def train() -> None:
    frame = remember("load", work.load)
    both = remember("split", work.split, frame, remember("validate", work.validate, frame))
    model = remember("train", lambda parts: work.train(parts[0]), both)
    metrics = remember("evaluate", lambda booster, parts: work.evaluate(booster, parts[1]), model, both)
    remember("register", work.register, model, metrics)


if __name__ == "__main__":
    chains: dict[str, work.Chain | str] = {"inline": chain, "processes": chain_in_pool, "transactions": transactions}
    work.drive(chains, train=train, resume=train, count=count)
