"""The training as Hamilton wants it: a function for each value, joined by the names of parameters."""

import lightgbm as lgb
import pandas as pd
from hamilton.function_modifiers import extract_fields

from benchmarks.peers.orchestrator import work


def frame() -> pd.DataFrame:
    return work.load()


def report(frame: pd.DataFrame) -> dict:
    return work.validate(frame)


@extract_fields({"rows": pd.DataFrame, "held": pd.DataFrame})
def parts(frame: pd.DataFrame, report: dict) -> dict:
    rows, held = work.split(frame, report)
    return {"rows": rows, "held": held}


def model(rows: pd.DataFrame) -> lgb.Booster:
    return work.train(rows)


def metrics(model: lgb.Booster, held: pd.DataFrame) -> dict:
    return work.evaluate(model, held)


def registered(model: lgb.Booster, metrics: dict) -> dict:
    return work.register(model, metrics)
