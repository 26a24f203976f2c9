"""DBOS as a library: a process with SQLite; a workflow with a finished id returns its recorded result."""

import sqlite3
from typing import Any

from dbos import DBOS, SetWorkflowID

from benchmarks.peers.orchestrator import work

_step = DBOS.step()
no_op, load, validate, split, train, evaluate, register = map(
    _step, (work.no_op, work.load, work.validate, work.split, work.train, work.evaluate, work.register)
)


@DBOS.workflow()
def chain(length: int) -> dict[str, int]:
    state = {"number": 0}
    for _ in range(length):
        state = no_op(state)
    return state


@DBOS.workflow()
def training() -> Any:
    frame = load()
    rows, test_rows = split(frame, validate(frame))
    model = train(rows)
    return register(model, evaluate(model, test_rows))


def run_training() -> None:
    with SetWorkflowID("training"):
        training()


def resume() -> None:
    DBOS.fork_workflow("training", 4).get_result()


def count() -> int:
    with sqlite3.connect("dbos.sqlite") as database:
        return int(database.execute("SELECT count(*) FROM operation_outputs").fetchone()[0])


if __name__ == "__main__":
    DBOS(config={"name": "bench", "system_database_url": "sqlite:///dbos.sqlite", "run_admin_server": False})
    DBOS.launch()
    chains: dict[str, work.Chain | str] = {"inline": chain, "processes": "runs steps in its own process"}
    work.drive(chains, train=run_training, resume=resume, count=count)
    DBOS.destroy()
