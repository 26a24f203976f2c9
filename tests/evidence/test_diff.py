"""What differs between two runs: nothing that is the same, everything that is not."""

import pytest
from msgspec import json
from msgspec.structs import replace

from tests.evidence import kit
from tests.flow.kit import Mill
from tidemill.evidence.diff import SECTIONS, Change, diff, packages_of
from tidemill.evidence.story import story_of


@pytest.fixture
def mill(tmp_path_factory: pytest.TempPathFactory) -> Mill:
    """A project with an empty workspace."""
    return Mill(tmp_path_factory.mktemp("evidence"))


def named(changes: list[Change]) -> dict[str, Change]:
    return {change.name: change for change in changes}


def test_a_run_differs_from_itself_in_nothing(mill: Mill) -> None:
    story = story_of(mill.books, mill.run(kit.telling).id)
    found = diff(story, story)
    assert [section for section in SECTIONS[:-1] if getattr(found, section)] == []
    assert all(change.difference == 0 for change in found.durations)
    assert found.same["steps"] == 8


def test_another_parameter_is_told_with_all_that_came_of_it(mill: Mill) -> None:
    a, b = (story_of(mill.books, mill.run(kit.telling, rows=rows, scale=rows * 1.5).id) for rows in (8, 9))
    found = diff(a, b)
    assert named(found.parameters)["rows"] == Change("rows", 8, 9, 1)
    assert found.graph == found.steps == found.packages == []
    read = named(found.outputs)["read.output"]
    assert "8 rows, 2 columns" in read.about["a"]
    assert "9 rows, 2 columns" in read.about["b"]
    assert "read-2.output" not in named(found.outputs)
    assert named(found.inputs)["measure.scale"].about == {"a": "a value", "b": "a value"}
    assert {change.name for change in found.durations} == {"the run", *a.run.graph}
    assert json.decode(json.encode(found))["metrics"] == []


def test_versions_and_metrics_are_told_with_their_difference(mill: Mill) -> None:
    a = story_of(mill.books, mill.run(kit.telling, scale=1.0).id)
    b = story_of(mill.books, mill.run(kit.telling, scale=2.0).id)
    other = replace(b.run, software=b.run.software | {"polars": "0.1"}, code=b.run.code | {"commit": "abc"})
    found = diff(a, replace(b, run=other), ({"numpy": "1", "six": "1"}, {"numpy": "2", "rich": "9"}))
    assert named(found.metrics)["test_loss"].difference == pytest.approx(0.125)
    assert named(found.software)["polars"].b == "0.1"
    assert named(found.code)["commit"] == Change("commit", None, "abc")
    assert found.packages == [Change("numpy", "1", "2"), Change("six", "1", None), Change("rich", None, "9")]


def test_a_failed_run_and_a_done_one_of_another_pipeline_can_be_compared(mill: Mill) -> None:
    found = diff(story_of(mill.books, kit.failed(mill).id), story_of(mill.books, mill.run(kit.telling).id))
    assert named(found.run)["state"] == Change("state", "failed", "done")
    assert "too many" in named(found.run)["error"].a
    assert named(found.graph)["trip"].b is None


def test_columns_that_came_and_went_are_named(mill: Mill) -> None:
    story = story_of(mill.books, mill.run(kit.telling).id)
    artifact = story.artifacts["read.output"]
    other = replace(artifact, id="f" * 64, summary={"rows": 8, "columns": {"a": "Float64", "c": "String"}})
    steps = [replace(s, outputs={"output": other.id}) if s.step == "read" else s for s in story.steps]
    found = diff(story, replace(story, steps=steps, artifacts=story.artifacts | {"read.output": other}))
    about = named(found.outputs)["read.output"].about
    assert (about["columns gone"], about["columns new"]) == (
        ["a Int64", "b String"],
        ["a Float64", "c String"],
    )


@pytest.mark.parametrize(
    ("listed", "expected"), [(b"", {}), (b"a==1\nb==2.0+x\n", {"a": "1", "b": "2.0+x"}), (b"\xff\nno version", {})]
)
def test_lists_of_packages_are_read(listed: bytes, expected: dict[str, str]) -> None:
    assert packages_of(listed) == expected
