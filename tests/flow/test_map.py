"""Fan-out over lists, sub-pipelines, and what is refused before a run starts."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import polars as pl
import pytest

from tests.flow.kit import Mill
from tidemill.core.pipeline import pipeline, step
from tidemill.errors import ConfigurationError, TidemillError


@step
def cut(rows: int, parts: int) -> list[pl.DataFrame]:
    return [pl.DataFrame({"x": range(place, rows, parts)}) for place in range(parts)]


@step
def add(frame: pl.DataFrame, more: int) -> tuple[int, str]:
    return int(frame["x"].sum()) + more, "x" * frame.height


@step
def join(sums: list[int], words: list[str]) -> str:
    return f"{sums} {words}"


@step
def number(value: int) -> int:
    return value


class Parts(NamedTuple):
    frames: list[pl.DataFrame]
    total: int
    words: list[str]


@step
def describe_parts(parts: Parts) -> str:
    assert all(isinstance(frame, pl.DataFrame) for frame in parts.frames)
    return f"{[frame.height for frame in parts.frames]} {parts.total} {parts.words}"


@pipeline
def spread(rows: int, parts: int = 3) -> Any:
    sums, words = add.map(cut(rows, parts), more=1)  # a Ref of each
    return join(sums, words)


@pipeline
def outer() -> None:
    spread(6)
    join([number(1)], ["a"])


def test_frames_are_spread_and_what_each_gives_is_joined(mill: Mill) -> None:
    done = mill.run(spread, rows=6)
    assert list(mill.states(done)) == ["cut", "add[0]", "add[1]", "add[2]", "join"]
    assert b"[4, 6, 8] ['xx', 'xx', 'xx']" in mill.value(done, "join")
    again = mill.run(spread, rows=6, parts=3)
    assert set(mill.states(again).values()) == {"cached"}


def test_outside_a_pipeline_a_map_is_a_loop() -> None:
    assert number.map([1, 2]) == [1, 2]


def test_a_list_that_is_known_is_spread_in_the_graph(mill: Mill) -> None:
    @pipeline
    def known() -> None:
        join(number.map([1, 2, number(3)]), ["a"])

    done = mill.run(known)
    assert b"[1, 2, 3]" in mill.value(done, "join")


def test_outputs_of_several_steps_are_passed_in_a_named_tuple(mill: Mill) -> None:
    @pipeline
    def grouped(rows: int) -> None:
        describe_parts(Parts(cut(rows, 2), number(rows), ["a"]))

    assert b"[3, 2] 5 ['a']" in mill.value(mill.run(grouped, rows=5), "describe_parts")
    assert set(mill.states(mill.run(grouped, rows=5)).values()) == {"cached"}
    assert mill.states(mill.run(grouped, rows=6))["describe_parts"] == "ran"


def test_a_pipeline_inside_another_is_part_of_it(mill: Mill) -> None:
    done = mill.run(outer)
    assert {"cut", "join", "join-2", "number"} <= set(mill.states(done))


def test_what_is_no_list_is_no_list(mill: Mill) -> None:
    @pipeline
    def wrong() -> None:
        number.map(number(3))

    run, error = mill.try_to_run(wrong)
    assert isinstance(error, TidemillError)
    assert "maps over the output of step 'number'" in str(error)
    assert run.state == "failed"


def test_a_pipeline_that_calls_itself_is_refused(mill: Mill) -> None:
    @pipeline
    def looping() -> None:
        number(1)
        looping()

    with pytest.raises(ConfigurationError, match="calls itself"):
        mill.try_to_run(looping)


def test_what_cannot_be_kept_is_refused_before_the_run(mill: Mill) -> None:
    @step
    def lines() -> Iterator[str]:
        yield "a"

    @pipeline
    def streaming() -> None:
        lines()

    with pytest.raises(ConfigurationError, match=r"'lines'.*cannot be stored") as raised:
        mill.try_to_run(streaming)
    assert raised.value.cure
    assert mill.books.runs.find() == []


def test_a_transient_step_is_not_mapped(mill: Mill) -> None:
    @step(transient=True)
    def many() -> list[int]:
        return [1, 2]

    @pipeline
    def mapping() -> None:
        number.map(many())

    with pytest.raises(ConfigurationError, match="transient"):
        mill.try_to_run(mapping)


@pytest.mark.parametrize("value", ["three", 1.5, None, True, [1]])
def test_a_value_of_another_type_is_refused_before_the_run(mill: Mill, value: Any) -> None:
    @pipeline
    def giving() -> None:
        number(value)

    with pytest.raises(ConfigurationError, match=r"passes .* to step 'number' as 'value', which must be of type int"):
        mill.try_to_run(giving)
    assert mill.books.runs.find() == []
