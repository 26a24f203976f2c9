"""The work that every contender does, and the way in which each is told to do it.

A contender is a script `on_NAME.py`. It runs no-op steps in a chain, each on the one before and each result kept, and
a training in six steps; `drive` turns its functions into jobs:

    prepare                      make what it keeps its state in, untimed
    first                        one chain of five steps: the first step writes when it began to $BENCH_FIRST
    time KIND SHORT,LONG TIMES   milliseconds a step, by the slope between two lengths, in one warm process
    many KIND LENGTH SECONDS     at each line on standard input, chains of that length for so many seconds
    count                        how many steps its records name
    train                        the training; each step that runs adds its name to $BENCH_TRACE; $BENCH_FAIL fails one
    resume                       go on with the training that failed
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

Chain = Callable[[int], object]


def no_op(state: dict[str, int]) -> dict[str, int]:
    """Count one more."""
    note = os.environ.get("BENCH_FIRST")
    if note and not Path(note).exists():
        Path(note).write_text(str(time.time_ns()))
    return {"number": state["number"] + 1}


def ran(name: str) -> None:
    """Note that a step ran."""
    with Path(os.environ["BENCH_TRACE"]).open("a") as trace:
        trace.write(name + "\n")


def load() -> Any:
    """200,000 rows: 19 features and a label."""
    import numpy as np
    import pandas as pd

    ran("load")
    random = np.random.default_rng(0)
    features = random.standard_normal((200_000, 19))
    label = features[:, :5].sum(1) + random.standard_normal(200_000) > 0
    return pd.DataFrame(features, columns=[f"f{column}" for column in range(19)]).assign(y=label.astype("float64"))


def validate(frame: Any) -> dict[str, float]:
    """Whether it is whole."""
    ran("validate")
    assert frame.shape[1] == 20
    assert not frame.isna().any().any()
    return {"rows": len(frame), "mean": float(frame.describe().loc["mean", "f0"])}


def split(frame: Any, report: dict[str, float]) -> tuple[Any, Any]:
    """The first four fifths, and the rest."""
    ran("split")
    assert report["rows"] == len(frame)
    cut = len(frame) * 4 // 5
    return frame.iloc[:cut].reset_index(drop=True), frame.iloc[cut:].reset_index(drop=True)


def train(rows: Any) -> Any:
    """A small booster."""
    ran("train")
    if os.environ.get("BENCH_FAIL"):
        raise RuntimeError("told to fail")
    import lightgbm

    params = {"objective": "binary", "num_leaves": 31, "verbose": -1, "num_threads": 1, "seed": 1}
    return lightgbm.train(params, lightgbm.Dataset(rows.drop(columns="y"), rows["y"]), num_boost_round=20)


def evaluate(model: Any, rows: Any) -> dict[str, float]:
    """How often it is right."""
    ran("evaluate")
    right = (model.predict(rows.drop(columns="y")) > 0.5) == rows["y"].to_numpy()
    return {"accuracy": float(right.mean())}


def register(model: Any, metrics: dict[str, float]) -> dict[str, float]:
    """What a registry would be told."""
    ran("register")
    return {"version": 1, "bytes": len(model.model_to_string()), **metrics}


def drive(
    chains: dict[str, Chain | str],
    train: Callable[[], object] | str,
    resume: Callable[[], object] | str,
    count: Callable[[], int] | str,
    prepare: Callable[[], object] = lambda: None,
) -> None:
    """Do the job that the command line names; text in place of a function says why a contender cannot."""
    job, *words = sys.argv[1:]
    if job == "time":
        short, long = map(int, words[1].split(","))
        chain = _able(chains[words[0]])
        chain(short)
        _tell([_slope(chain, short, long) for _ in range(int(words[2]))])
    elif job == "many":
        _able(count)
        _repeatedly(_able(chains[words[0]]), int(words[1]), float(words[2]))
    elif job == "first":
        _able(chains["inline"])(5)
    elif job == "count":
        _tell(_able(count)())
    else:
        _able({"prepare": prepare, "train": train, "resume": resume}[job])()


def _slope(chain: Chain, short: int, long: int) -> float:
    return (_seconds(chain, long) - _seconds(chain, short)) / (long - short) * 1000


def _seconds(chain: Chain, length: int) -> float:
    began = time.perf_counter()
    chain(length)
    return time.perf_counter() - began


def _repeatedly(chain: Chain, length: int, seconds: float) -> None:
    chain(length)
    _tell("ready")
    for _ in sys.stdin:
        began, steps = time.time(), 0
        while time.time() < began + seconds:
            chain(length)
            steps += length
        _tell([began, time.time(), steps])


def _able(function: Any) -> Any:
    return _cannot(function) if isinstance(function, str) else function


def _cannot(reason: str) -> NoReturn:
    print(reason, file=sys.stderr)
    raise SystemExit(3)


def _tell(value: object) -> None:
    print("result", json.dumps(value), flush=True)
