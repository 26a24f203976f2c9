"""The checks of a target environment: each reason to refuse is found for itself, with the names in question."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from tidemill.checks.infrastructure import Answers, LoadResult, check_answers, check_load, check_machine
from tidemill.core.build import Build
from tidemill.core.environment import Environment, Load
from tidemill.core.machine import MachineFacts

BUILD = Build(
    id="b1", project="shop", number=1, commit="a" * 40, state="passed", created=datetime(2026, 1, 1, tzinfo=UTC),
    environment="ci", python="3.11.2", packages={"polars": "2.1.0", "scikit_learn": "1.9.0"},
)  # fmt: skip
FACTS = MachineFacts(
    python="3.11.2", packages={"polars": "2.1.0", "scikit-learn": "1.9.0", "extra": "1"}, memory_mb=900.0,
    memory_limit="of the control group",
)  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "facts", "about", "text"),
    [
        ({}, {"packages": {"polars": "2.1.0"}}, "packages", "missing: scikit-learn"),
        ({}, {"packages": FACTS.packages | {"polars": "2.0.9"}}, "packages", "polars 2.0.9 in place of 2.1.0"),
        ({}, {"python": "3.12.1"}, "python", "3.11.2, not 3.12.1"),
        ({"python": "3.12"}, {}, "python", "older than 3.12"),
        ({"memory_mb": 1000}, {}, "memory", "1,000 MB of memory are required, and 900 MB are free (the limit of the c"),
        ({"accelerator": True}, {}, "accelerator", "none is there"),
        ({}, {"error": "python cannot be started"}, "python", "cannot be started"),
    ],
)
def test_each_reason(settings: dict[str, Any], facts: dict[str, Any], about: str, text: str) -> None:
    findings = check_machine(BUILD, Environment(**settings), replace(FACTS, **facts))
    failed = [finding for finding in findings if finding.outcome == "fail"]
    assert [finding.about for finding in failed] == [about]
    assert text in failed[0].reason


def test_a_fitting_machine_passes_with_its_facts() -> None:
    settings = Environment(python="3.11", memory_mb=800, accelerator=True)
    findings = check_machine(BUILD, settings, replace(FACTS, accelerators=("H200",)))
    assert [finding.outcome for finding in findings] == ["pass"]
    assert findings[0].evidence["accelerators"] == ["H200"]


Rows = list[dict[str, Any]]


def answers(received: list[dict[str, Any]], **changes: Any) -> Answers:
    expected: list[dict[str, Any]] = [
        {"value": "yes", "probabilities": {"no": 0.4, "yes": 0.6}},
        {"value": 3.0, "probabilities": None},
    ]
    return Answers(model="late", release="late/3", expected=expected, received=received, **changes)


def test_answers_are_equal_up_to_rounding() -> None:
    same: Rows = [
        {"value": "yes", "probabilities": {"no": 0.4, "yes": 0.6 + 1e-9}},
        {"value": 3.0, "probabilities": None},
    ]
    assert [finding.outcome for finding in check_answers([answers(same)])] == ["pass"]


@pytest.mark.parametrize(
    ("received", "text"),
    [
        ([{"value": "yes", "probabilities": {"no": 0.39, "yes": 0.61}}, {"value": 3.0, "probabilities": None}], "1 of"),
        ([{"value": "yes", "probabilities": {"no": 0.4, "YES": 0.6}}, {"value": 3.0, "probabilities": None}], "1 of 2"),
        ([{"value": "yes", "probabilities": {"no": 0.4, "yes": 0.6}}], "1 predictions for 2 rows"),
    ],
)
def test_other_answers_are_refused(received: list[dict[str, Any]], text: str) -> None:
    findings = check_answers([answers(received)])
    assert [finding.outcome for finding in findings] == ["fail"]
    assert text in findings[0].reason


def test_a_package_that_cannot_be_read_is_refused() -> None:
    findings = check_answers([answers([], problem="its bytes have changed")])
    assert (findings[0].outcome, findings[0].reason) == ("fail", "late/3: its bytes have changed")


@pytest.mark.parametrize(
    ("result", "about"),
    [
        ({"failed": 2, "first_failure": "status 500"}, ["errors"]),
        ({"p99_ms": 60.0}, ["p99"]),
        ({"p50_ms": 20.0}, ["p50"]),
        ({"p99_ms": float("nan")}, ["p99"]),
        ({}, []),
    ],
)
def test_load(result: dict[str, Any], about: list[str]) -> None:
    measured = LoadResult(requests=100, failed=0, rate=50.0, p50_ms=2.0, p99_ms=9.0)
    findings = check_load(Load(rate=50, p50_ms=10, p99_ms=50, errors=0.01), replace(measured, **result))
    assert [finding.about for finding in findings if finding.outcome == "fail"] == about
