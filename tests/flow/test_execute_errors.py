"""Values and inputs that a run refuses, each with its cure."""

from typing import Any

import polars as pl
import pytest

from tests.flow.kit import Mill
from tidemill.core.pipeline import pipeline, step
from tidemill.errors import ConfigurationError


@step
def load(rows: int) -> pl.DataFrame:
    return pl.DataFrame({"x": range(rows)})


def test_a_value_that_no_longer_fits_its_taker_is_explained(mill: Mill) -> None:
    @step
    def count() -> int:
        return 3

    def taking(hint: Any) -> Any:
        def take(numbers: Any) -> str:
            return str(numbers)

        take.__annotations__["numbers"] = hint
        return step(take)

    def flow(take: Any) -> Any:
        @pipeline
        def counting() -> None:
            take(count())

        return counting

    mill.run(flow(taking(int)))
    mill.workspace.blobs.delete(mill.books.steps.find(step="take")[0].outputs["output"])
    run, error = mill.try_to_run(flow(taking(list[int])))
    assert error is not None
    assert "the output of step 'count' cannot be read: a json cannot be read as list" in str(error)
    assert error.cure
    assert mill.books.runs.get(run.id).state == "failed"


def test_what_no_codec_keeps_is_refused_with_a_cure(mill: Mill) -> None:
    @step
    def make() -> Any:
        return object()

    @pipeline
    def making() -> None:
        make()

    run, error = mill.try_to_run(making)
    assert error is not None
    assert "no codec" in error.problem
    assert "tidemill.codecs" in error.cure
    assert mill.states(run) == {"make": "failed"}


@pytest.mark.parametrize(
    "value", [{"a": "ref"}, [["ref"]], object(), pl.DataFrame()], ids=["dict", "nested", "object", "frame"]
)
def test_an_input_that_is_no_plain_data_is_refused_before_anything_runs(mill: Mill, value: Any) -> None:
    @step
    def take(value: Any) -> int:
        return 1

    @pipeline
    def taking() -> None:
        ref = load(3)
        take({"a": ref} if isinstance(value, dict) else [[ref]] if isinstance(value, list) else value)

    with pytest.raises(ConfigurationError, match="an input 'value' to step 'take'"):
        mill.try_to_run(taking)
    assert mill.books.runs.find() == []


def test_wrong_number_of_outputs_is_a_failure_with_a_cure(mill: Mill) -> None:
    @step
    def three() -> tuple[int, int]:
        return 1, 2, 3  # type: ignore[return-value]

    @pipeline
    def wrong() -> None:
        three()

    _, error = mill.try_to_run(wrong)
    assert error is not None
    assert "returned 3 values" in str(error)
