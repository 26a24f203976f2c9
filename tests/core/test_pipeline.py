"""Tracing: calling steps inside a pipeline records the graph; anywhere else they just run."""

from collections.abc import Callable
from typing import Any

import pytest

from tidemill.core.pipeline import Ref, pipeline, step
from tidemill.errors import ConfigurationError, InputError


@step
def load(source: str = "rows") -> int:
    """Rows of a source."""
    return len(source)


@step(retries=2)
def double(number: int) -> int:
    return 2 * number


@step
def halves(number: int) -> tuple[int, int]:
    return number // 2, number - number // 2


@step
def total(numbers: list[int]) -> int:
    return sum(numbers)


def test_a_step_is_a_plain_function_outside_a_pipeline() -> None:
    assert total([double(load("abc")), *halves(5)]) == 11
    assert (load.name, load.__doc__, double.retries) == ("load", "Rows of a source.", 2)


def test_calls_become_edges_in_the_order_in_which_they_can_run() -> None:
    @pipeline
    def training(source: str) -> None:
        one = double(load(source))
        first, second = halves(number=one)
        total([first, second, one])

    graph = training.trace({"source": "abc"})
    assert {name: node.needs for name, node in graph.nodes.items()} == {
        "load": (),
        "double": ("load",),
        "halves": ("double",),
        "total": ("halves", "double"),
    }
    assert graph.nodes["load"].inputs == {"source": "abc"}
    assert graph.params == {"source": "abc"}


def test_two_calls_of_a_step_are_two_nodes() -> None:
    @pipeline
    def training() -> None:
        total([double(1), double(2), double(3)])

    assert list(training.trace({}).nodes) == ["double", "double-2", "double-3", "total"]


def test_a_pipeline_inside_another_becomes_part_of_it() -> None:
    @pipeline
    def inner(number: int) -> Any:
        return double(number)

    @pipeline
    def outer() -> None:
        total([inner(1), inner(2)])

    assert outer.trace({}).nodes["total"].needs == ("double", "double-2")


def test_a_decision_on_a_parameter_is_made_while_tracing() -> None:
    @pipeline
    def training(deep: bool = False) -> None:
        if deep:
            double(1)
        load()

    assert list(training.trace({}).nodes) == ["load"]
    assert list(training.trace({"deep": True}).nodes) == ["double", "load"]


USES: dict[str, Callable[[Any], Any]] = {
    "branch": lambda ref: 1 if ref else 2,
    "loop": lambda ref: [one for one in ref],  # noqa: C416 - how people write it
    "length": len,
    "item": lambda ref: ref[0],
    "attribute": lambda ref: ref.height,
    "method": lambda ref: ref.head(3),
    "equality": lambda ref: ref == 3,
    "order": lambda ref: ref > 0.5,
    "sum": lambda ref: ref + 1,
    "product": lambda ref: 2 * ref,
    "text": lambda ref: f"rows of {ref}",
    "membership": lambda ref: 3 in ref,
    "number": float,
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_using_a_value_that_is_not_known_yet_says_what_to_do(use: Callable[[Any], Any]) -> None:
    @pipeline
    def training() -> None:
        use(load())

    with pytest.raises(ConfigurationError, match="value of step 'load' before it is known") as told:
        training.trace({})
    assert "inside a step" in told.value.cure


def test_after_a_trace_that_failed_steps_run_again() -> None:
    @pipeline
    def broken() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        broken.trace({})
    assert double(2) == 4


def test_a_wrong_call_names_the_step_and_its_parameters() -> None:
    @pipeline
    def training() -> None:
        double(nummer=1)

    with pytest.raises(ConfigurationError, match="'double' wrongly") as told:
        training.trace({})
    assert "number" in told.value.cure


def test_parameters_that_are_unknown_or_missing() -> None:
    @pipeline
    def training(depth: int, source: str = "rows") -> None:
        load(source)

    with pytest.raises(InputError, match="no parameter 'dept'") as unknown:
        training.trace({"dept": 3})
    assert "depth, source" in unknown.value.cure
    with pytest.raises(InputError, match="needs the parameter 'depth'") as missing:
        training.trace({})
    assert "--param depth=" in missing.value.cure


def test_annotations_that_cannot_be_resolved_are_named() -> None:
    def later(frame: "Nowhere") -> int:  # type: ignore[name-defined]  # noqa: F821
        return 1

    with pytest.raises(ConfigurationError, match=r"'later'.*Nowhere"):
        _ = step(later).hints


def test_a_ref_shows_what_it_stands_for() -> None:
    assert repr(Ref("load", "output")) == "<output of load>"
    assert len({Ref("load", "output"), Ref("load", "output")}) == 2
