"""Prefect without a running server: each process starts a temporary one; results are persisted and cached."""

import sqlite3
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.cache_policies import INPUTS, NO_CACHE, TASK_SOURCE

from benchmarks.peers.orchestrator import work

no_op = task(work.no_op, persist_result=True, cache_policy=NO_CACHE)
load, validate, split, train, evaluate, register = (
    task(function, persist_result=True, cache_policy=INPUTS + TASK_SOURCE)
    for function in (work.load, work.validate, work.split, work.train, work.evaluate, work.register)
)


@flow
def chain(length: int) -> None:
    state = {"number": 0}
    for _ in range(length):
        state = no_op(state)


@flow
def training() -> Any:
    frame = load()
    rows, test_rows = split(frame, validate(frame))
    model = train(rows)
    return register(model, evaluate(model, test_rows))


def count() -> int:
    import os

    with sqlite3.connect(Path(os.environ["PREFECT_HOME"], "prefect.db")) as database:
        return int(database.execute("SELECT count(*) FROM task_run WHERE state_type = 'COMPLETED'").fetchone()[0])


if __name__ == "__main__":
    chains: dict[str, work.Chain | str] = {"inline": chain, "processes": "its process runner needs fanned-out tasks"}
    work.drive(chains, train=training, resume=training, count=count)
