"""What a step receives is its own: what one step changes in place no other step sees, with either engine."""

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from msgspec import Struct

from tests.flow.kit import Mill
from tidemill.core.pipeline import Pipeline, pipeline, step
from tidemill.core.run import Run
from tidemill.flow.engine import run
from tidemill.flow.own import NotCopied, copy_value

_ROWS = {"a": [0, 1, 2, 3], "b": [1.0, 1.0, 1.0, 1.0]}


class Weights(Struct, frozen=True):
    """A struct that cannot be changed, around a dict that can."""

    by_class: dict[str, list[float]]


@step
def rows() -> pl.DataFrame:
    return pl.DataFrame(_ROWS)


@step
def change_rows(frame: pl.DataFrame) -> float:
    frame[0, "b"] = 1000.0
    frame.drop_in_place("a")
    frame.extend(pl.DataFrame({"b": [5.0]}))
    return float(frame["b"].sum())


@step
def describe_rows(frame: pl.DataFrame, after: float) -> str:
    return f"{frame.columns} {frame.height} {frame['b'].sum()}"


@step
def listed() -> list[dict[str, int]]:
    return [{"a": 1}, {"a": 2}]


@step
def change_list(items: list[dict[str, int]]) -> int:
    items[0]["a"] = 100
    items.append({"a": 3})
    return len(items)


@step
def describe_list(items: list[dict[str, int]], after: int) -> str:
    return str(items)


@step
def array() -> np.ndarray[Any, Any]:
    return np.arange(4.0)


@step
def change_array(values: np.ndarray[Any, Any]) -> int:
    values[:] = 7
    return 1


@step
def describe_array(values: np.ndarray[Any, Any], after: int) -> str:
    return str(values.tolist())


@step
def weights() -> Weights:
    return Weights({"yes": [1.0]})


@step
def change_weights(weights: Weights) -> int:
    weights.by_class["yes"].append(9.0)
    weights.by_class["no"] = []
    return 1


@step
def describe_weights(weights: Weights, after: int) -> str:
    return str(weights.by_class)


@step(transient=True)
def passing() -> pd.DataFrame:
    return pd.DataFrame(_ROWS)


@step
def change_passing(frame: pd.DataFrame) -> int:
    frame.loc[0, "b"] = 1000.0
    del frame["a"]
    return 1


@step
def describe_passing(frame: pd.DataFrame, after: int) -> str:
    return f"{list(frame.columns)} {frame['b'].sum()}"


_KEPT: list[pl.DataFrame] = []


@step
def hoard() -> pl.DataFrame:
    """Keeps the frame that it returns, and changes it later."""
    _KEPT[:] = [pl.DataFrame(_ROWS)]
    return _KEPT[0]


@step
def change_hoard() -> int:
    for frame in _KEPT:
        frame[0, "b"] = 1000.0
    return 1


@pipeline
def frames() -> None:
    frame = rows()
    describe_rows(frame, change_rows(frame))


@pipeline
def lists() -> None:
    items = listed()
    describe_list(items, change_list(items))


@pipeline
def stated_lists() -> None:
    items = [{"a": 1}, {"a": 2}]
    describe_list(items, change_list(items))


@pipeline
def arrays() -> None:
    values = array()
    describe_array(values, change_array(values))


@pipeline
def structs() -> None:
    found = weights()
    describe_weights(found, change_weights(found))


@pipeline
def transients() -> None:
    frame = passing()
    describe_passing(frame, change_passing(frame))


@pipeline
def hoarded() -> None:
    frame = hoard()
    describe_rows(frame, change_hoard())


EXPECTED: dict[Pipeline, str] = {
    frames: "['a', 'b'] 4 4.0",
    lists: "[{'a': 1}, {'a': 2}]",
    stated_lists: "[{'a': 1}, {'a': 2}]",
    arrays: "[0.0, 1.0, 2.0, 3.0]",
    structs: "{'yes': [1.0]}",
    transients: "['a', 'b'] 4.0",
    hoarded: "['a', 'b'] 4 4.0",
}


@pytest.mark.parametrize(("changing", "described"), EXPECTED.items(), ids=[one.name for one in EXPECTED])
def test_what_one_step_changes_in_place_no_other_sees(mill: Mill, changing: Pipeline, described: str) -> None:
    assert _described(mill, mill.run(changing)) == described


def test_nor_in_a_worker_process(tmp_path: Path) -> None:
    mill, of_others = Mill(tmp_path), set(multiprocessing.active_children())
    mill.session.reopen = Reopen(tmp_path)
    for changing, described in EXPECTED.items():
        done, error = run(mill.session, changing, {}, engine="processes")
        assert error is None
        assert _described(mill, done) == described
    for engine in mill.session.engines.values():
        engine.close()
    assert set(multiprocessing.active_children()) <= of_others


def test_nor_in_a_run_that_finds_the_value_in_the_cache(mill: Mill) -> None:
    mill.run(frames)
    again = mill.run(frames)
    assert set(mill.states(again).values()) == {"cached"}
    assert _described(mill, again) == EXPECTED[frames]


class Score(Struct, frozen=True):
    """A struct whose bytes do not have the order of its dict, nor the type of its number."""

    by_name: dict[str, float]
    whole: float


@step
def score() -> Score:
    return Score(by_name={"b": 1, "a": 2.5}, whole=1)


@step(cache=False)
def describe_score(score: Score) -> str:
    return repr(score)


@pipeline
def scored() -> None:
    describe_score(score())


def test_a_new_value_equals_the_one_that_the_cache_has(mill: Mill) -> None:
    """Otherwise two runs of one training make two packages of one model."""
    first = _described(mill, mill.run(scored))
    again = mill.run(scored)
    assert mill.states(again) == {"score": "cached", "describe_score": "ran"}
    assert _described(mill, again) == first == "Score(by_name={'a': 2.5, 'b': 1.0}, whole=1.0)"


def test_a_value_that_cannot_be_copied_is_no_ones_own() -> None:
    with pytest.raises(NotCopied):
        copy_value(number for number in [1])


class Reopen:
    """Opens the session of a worker; the project has no code of its own, the steps are in this module."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self) -> Any:
        return Mill(self._folder).session


def _described(mill: Mill, done: Run) -> str:
    step = next(name for name in mill.steps(done) if name.startswith("describe"))
    return mill.value(done, step).decode("utf-8-sig")
