"""The training in the form of Hamilton: a function for each value, connected by the names of parameters."""

import lightgbm as lgb
import pandas as pd
from hamilton.function_modifiers import extract_fields

from benchmarks.peers.orchestrator import work


def frame() -> pd.DataFrame:
    return work.load()


def report(frame: pd.DataFrame) -> dict:
    return work.validate(frame)


@extract_fields({"rows": pd.DataFrame, "test_rows": pd.DataFrame})
def parts(frame: pd.DataFrame, report: dict) -> dict:
    rows, test_rows = work.split(frame, report)
    return {"rows": rows, "test_rows": test_rows}


def model(rows: pd.DataFrame) -> lgb.Booster:
    return work.train(rows)


def metrics(model: lgb.Booster, test_rows: pd.DataFrame) -> dict:
    return work.evaluate(model, test_rows)


def registered(model: lgb.Booster, metrics: dict) -> dict:
    return work.register(model, metrics)
