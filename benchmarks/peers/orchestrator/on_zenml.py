"""ZenML on its local stack: artifacts as files, metadata in its SQLite store, cache on for the training."""

from typing import Annotated

import lightgbm as lgb
import pandas as pd
from zenml import pipeline, step

from benchmarks.peers.orchestrator import work


@step(enable_cache=False)
def start() -> dict:
    return work.no_op({"number": 0})


@step(enable_cache=False)
def no_op(state: dict) -> dict:
    return work.no_op(state)


@step
def load() -> pd.DataFrame:
    return work.load()


@step
def validate(frame: pd.DataFrame) -> dict:
    return work.validate(frame)


@step
def split(
    frame: pd.DataFrame, report: dict
) -> tuple[Annotated[pd.DataFrame, "rows"], Annotated[pd.DataFrame, "test_rows"]]:
    rows, test_rows = work.split(frame, report)
    return rows, test_rows  # ZenML reads this line to count the outputs


@step
def train(rows: pd.DataFrame) -> lgb.Booster:
    return work.train(rows)


@step
def evaluate(model: lgb.Booster, test_rows: pd.DataFrame) -> dict:
    return work.evaluate(model, test_rows)


@step
def register(model: lgb.Booster, metrics: dict) -> dict:
    return work.register(model, metrics)


@pipeline
def training() -> None:
    frame = load()
    rows, test_rows = split(frame, validate(frame))
    model = train(rows)
    register(model, evaluate(model, test_rows))


def chain(length: int) -> None:
    @pipeline(enable_cache=False, name=f"chain_{length}")
    def steps() -> None:
        state = start()
        for _ in range(1, length):
            state = no_op(state)

    steps()


def count() -> int:
    from zenml.client import Client

    return int(6 * Client().list_pipeline_runs(pipeline="chain_6", status="completed", size=1).total)


if __name__ == "__main__":
    chains: dict[str, work.Chain | str] = {"inline": chain, "processes": "no local orchestrator with processes"}
    work.drive(chains, train=training, resume=training, count=count)
