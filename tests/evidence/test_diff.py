"""The comparison of two runs has every difference, and nothing that is equal."""

import pytest
from msgspec import json
from msgspec.structs import replace

from tests.evidence import kit
from tests.flow.kit import Mill
from tidemill.evidence.diff import SECTIONS, ChangedValue, compare_runs, parse_packages
from tidemill.evidence.run_details import read_run_details


@pytest.fixture
def mill(tmp_path_factory: pytest.TempPathFactory) -> Mill:
    """A project with an empty workspace."""
    return Mill(tmp_path_factory.mktemp("evidence"))


def by_name(changes: list[ChangedValue]) -> dict[str, ChangedValue]:
    return {change.name: change for change in changes}


def test_a_run_does_not_differ_from_itself(mill: Mill) -> None:
    details = read_run_details(mill.books, mill.run(kit.sizing).id)
    comparison = compare_runs(details, details)
    assert [section for section in SECTIONS[:-1] if getattr(comparison, section)] == []
    assert all(change.difference == 0 for change in comparison.durations)
    assert comparison.same["steps"] == 8


def test_a_changed_parameter_is_reported_with_the_changed_outputs(mill: Mill) -> None:
    a, b = (read_run_details(mill.books, mill.run(kit.sizing, rows=rows, scale=rows * 1.5).id) for rows in (8, 9))
    comparison = compare_runs(a, b)
    assert by_name(comparison.parameters)["rows"] == ChangedValue("rows", 8, 9, 1)
    assert comparison.graph == comparison.steps == comparison.packages == []
    read = by_name(comparison.outputs)["read.output"]
    assert "8 rows, 2 columns" in read.about["a"]
    assert "9 rows, 2 columns" in read.about["b"]
    assert "read-2.output" not in by_name(comparison.outputs)
    assert by_name(comparison.inputs)["measure.scale"].about == {"a": "a value", "b": "a value"}
    assert {change.name for change in comparison.durations} == {"the run", *a.run.graph}
    assert json.decode(json.encode(comparison))["metrics"] == []


def test_versions_and_metrics_are_reported_with_their_difference(mill: Mill) -> None:
    a = read_run_details(mill.books, mill.run(kit.sizing, scale=1.0).id)
    b = read_run_details(mill.books, mill.run(kit.sizing, scale=2.0).id)
    other = replace(b.run, software=b.run.software | {"polars": "0.1"}, code=b.run.code | {"commit": "abc"})
    comparison = compare_runs(a, replace(b, run=other), ({"numpy": "1", "six": "1"}, {"numpy": "2", "rich": "9"}))
    assert by_name(comparison.metrics)["test_loss"].difference == pytest.approx(0.125)
    assert by_name(comparison.software)["polars"].b == "0.1"
    assert by_name(comparison.code)["commit"] == ChangedValue("commit", None, "abc")
    assert comparison.packages == [
        ChangedValue("numpy", "1", "2"),
        ChangedValue("six", "1", None),
        ChangedValue("rich", None, "9"),
    ]


def test_a_failed_run_can_be_compared_with_a_run_of_another_pipeline(mill: Mill) -> None:
    comparison = compare_runs(
        read_run_details(mill.books, kit.run_failing(mill).id), read_run_details(mill.books, mill.run(kit.sizing).id)
    )
    assert by_name(comparison.run)["state"] == ChangedValue("state", "failed", "done")
    assert "too many" in by_name(comparison.run)["error"].a
    assert by_name(comparison.graph)["fail"].b is None


def test_added_and_removed_columns_are_reported(mill: Mill) -> None:
    details = read_run_details(mill.books, mill.run(kit.sizing).id)
    artifact = details.artifacts["read.output"]
    other = replace(artifact, id="f" * 64, summary={"rows": 8, "columns": {"a": "Float64", "c": "String"}})
    steps = [replace(s, outputs={"output": other.id}) if s.step == "read" else s for s in details.steps]
    artifacts = details.artifacts | {"read.output": other}
    comparison = compare_runs(details, replace(details, steps=steps, artifacts=artifacts))
    about = by_name(comparison.outputs)["read.output"].about
    assert (about["columns gone"], about["columns new"]) == (
        ["a Int64", "b String"],
        ["a Float64", "c String"],
    )


@pytest.mark.parametrize(
    ("content", "expected"), [(b"", {}), (b"a==1\nb==2.0+x\n", {"a": "1", "b": "2.0+x"}), (b"\xff\nno version", {})]
)
def test_package_lists_are_parsed(content: bytes, expected: dict[str, str]) -> None:
    assert parse_packages(content) == expected
