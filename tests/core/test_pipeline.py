"""Tracing: a call of a step inside a pipeline records the graph; a call anywhere else runs the step."""

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


def test_step_is_a_plain_function_outside_a_pipeline() -> None:
    assert total([double(load("abc")), *halves(5)]) == 11
    assert (load.name, load.__doc__, double.retries) == ("load", "Rows of a source.", 2)


def test_calls_become_edges_in_a_runnable_order() -> None:
    @pipeline
    def training(source: str) -> None:
        doubled = double(load(source))
        first, second = halves(number=doubled)
        total([first, second, doubled])

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


def test_branch_on_a_parameter_is_traced() -> None:
    @pipeline
    def training(deep: bool = False) -> None:
        if deep:
            double(1)
        load()

    assert list(training.trace({}).nodes) == ["load"]
    assert list(training.trace({"deep": True}).nodes) == ["double", "load"]


USES: dict[str, Callable[[Any], Any]] = {
    "branch": lambda ref: 1 if ref else 2,
    "loop": lambda ref: [row for row in ref],  # noqa: C416 - how people write it
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
def test_use_of_a_value_while_tracing_is_an_error_with_a_cure(use: Callable[[Any], Any]) -> None:
    @pipeline
    def training() -> None:
        use(load())

    with pytest.raises(ConfigurationError, match="value of step 'load' before the step has run") as error:
        training.trace({})
    assert "inside a step" in error.value.cure


def test_steps_run_after_a_failed_trace() -> None:
    @pipeline
    def broken() -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        broken.trace({})
    assert double(2) == 4


def test_call_with_wrong_arguments_names_the_step_and_its_parameters() -> None:
    @pipeline
    def training() -> None:
        double(nummer=1)

    with pytest.raises(ConfigurationError, match="'double' with wrong arguments") as error:
        training.trace({})
    assert "number" in error.value.cure


def test_unknown_and_missing_parameters_are_errors() -> None:
    @pipeline
    def training(depth: int, source: str = "rows") -> None:
        load(source)

    with pytest.raises(InputError, match="no parameter 'dept'") as unknown:
        training.trace({"dept": 3})
    assert "depth, source" in unknown.value.cure
    with pytest.raises(InputError, match="needs the parameter 'depth'") as missing:
        training.trace({})
    assert "--param depth=" in missing.value.cure


def test_unresolved_annotation_is_named() -> None:
    def later(frame: "Nowhere") -> int:  # type: ignore[name-defined]  # noqa: F821
        return 1

    with pytest.raises(ConfigurationError, match=r"'later'.*Nowhere"):
        _ = step(later).hints


def test_repr_of_a_ref() -> None:
    assert repr(Ref("load", "output")) == "<output of load>"
    assert len({Ref("load", "output"), Ref("load", "output")}) == 2
