"""The work of every contender, and the jobs that its script does.

A contender is a script `on_NAME.py`. It runs a chain of no-op steps, of which each uses the result of the
previous one and stores its own, and a training in six steps; `drive` turns its functions into jobs:

    prepare                      create the storage of its state; not timed
    first                        one chain of five steps: the first step writes its start time to $BENCH_FIRST
    time KIND SHORT,LONG TIMES   milliseconds per step: the slope between two lengths, in one warm process
    many KIND LENGTH SECONDS     for each line on standard input, run chains of LENGTH for SECONDS
    count                        the number of steps in its records
    train                        the training; each step adds its name to $BENCH_TRACE; with $BENCH_FAIL one step fails
    resume                       resume the failed training
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
    """Return the state with the next number."""
    note = os.environ.get("BENCH_FIRST")
    if note and not Path(note).exists():
        Path(note).write_text(str(time.time_ns()))
    return {"number": state["number"] + 1}


def write_trace(name: str) -> None:
    """Write the name of a step that runs to the trace."""
    with Path(os.environ["BENCH_TRACE"]).open("a") as trace:
        trace.write(name + "\n")


def load() -> Any:
    """Return 200,000 rows with 19 features and a label."""
    import numpy as np
    import pandas as pd

    write_trace("load")
    random = np.random.default_rng(0)
    features = random.standard_normal((200_000, 19))
    label = features[:, :5].sum(1) + random.standard_normal(200_000) > 0
    return pd.DataFrame(features, columns=[f"f{column}" for column in range(19)]).assign(y=label.astype("float64"))


def validate(frame: Any) -> dict[str, float]:
    """Check that no column and no value is missing."""
    write_trace("validate")
    assert frame.shape[1] == 20
    assert not frame.isna().any().any()
    return {"rows": len(frame), "mean": float(frame.describe().loc["mean", "f0"])}


def split(frame: Any, report: dict[str, float]) -> tuple[Any, Any]:
    """Return the first four fifths of the rows, and the rest."""
    write_trace("split")
    assert report["rows"] == len(frame)
    cut = len(frame) * 4 // 5
    return frame.iloc[:cut].reset_index(drop=True), frame.iloc[cut:].reset_index(drop=True)


def train(rows: Any) -> Any:
    """Train a small booster."""
    write_trace("train")
    if os.environ.get("BENCH_FAIL"):
        raise RuntimeError("BENCH_FAIL is set")
    import lightgbm

    params = {"objective": "binary", "num_leaves": 31, "verbose": -1, "num_threads": 1, "seed": 1}
    return lightgbm.train(params, lightgbm.Dataset(rows.drop(columns="y"), rows["y"]), num_boost_round=20)


def evaluate(model: Any, rows: Any) -> dict[str, float]:
    """Return the accuracy."""
    write_trace("evaluate")
    right = (model.predict(rows.drop(columns="y")) > 0.5) == rows["y"].to_numpy()
    return {"accuracy": float(right.mean())}


def register(model: Any, metrics: dict[str, float]) -> dict[str, float]:
    """Return the record for a registry."""
    write_trace("register")
    return {"version": 1, "bytes": len(model.model_to_string()), **metrics}


def drive(
    chains: dict[str, Chain | str],
    train: Callable[[], object] | str,
    resume: Callable[[], object] | str,
    count: Callable[[], int] | str,
    prepare: Callable[[], object] = lambda: None,
) -> None:
    """Do the job of the command line; text instead of a function is the reason for an unsupported job."""
    job, *arguments = sys.argv[1:]
    if job == "time":
        short, long = map(int, arguments[1].split(","))
        chain = _require_function(chains[arguments[0]])
        chain(short)
        _print_result([_slope(chain, short, long) for _ in range(int(arguments[2]))])
    elif job == "many":
        _require_function(count)
        _run_repeatedly(_require_function(chains[arguments[0]]), int(arguments[1]), float(arguments[2]))
    elif job == "first":
        _require_function(chains["inline"])(5)
    elif job == "count":
        _print_result(_require_function(count)())
    else:
        _require_function({"prepare": prepare, "train": train, "resume": resume}[job])()


def _slope(chain: Chain, short: int, long: int) -> float:
    return (_seconds(chain, long) - _seconds(chain, short)) / (long - short) * 1000


def _seconds(chain: Chain, length: int) -> float:
    started = time.perf_counter()
    chain(length)
    return time.perf_counter() - started


def _run_repeatedly(chain: Chain, length: int, seconds: float) -> None:
    chain(length)
    _print_result("ready")
    for _ in sys.stdin:
        started, steps = time.time(), 0
        while time.time() < started + seconds:
            chain(length)
            steps += length
        _print_result([started, time.time(), steps])


def _require_function(function: Any) -> Any:
    return _exit_unsupported(function) if isinstance(function, str) else function


def _exit_unsupported(reason: str) -> NoReturn:
    print(reason, file=sys.stderr)
    raise SystemExit(3)


def _print_result(value: object) -> None:
    print("result", json.dumps(value), flush=True)
