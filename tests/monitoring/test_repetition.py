"""A value fails only if several of its last evaluations were beyond the limit."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.core.check import Verdict
from tidemill.core.policy import WatchValue
from tidemill.monitoring.repetition import parse_repetition, require_repetition


def evaluate(outcomes: str, repetition: str) -> str:
    """Return the outcomes of evaluations: `x` is beyond the limit, `.` within it; `x` stays where it fails."""
    value = WatchValue(value="drift", limit=0.3, action="retrain", repetition=repetition)
    verdicts: list[Verdict] = []
    for outcome in outcomes:
        bad = outcome == "x"
        verdict = Verdict(
            check="drift",
            subject="m/1",
            outcome="fail" if bad else "pass",
            action="retrain" if bad else "proceed",
            reason="",
        )
        verdicts.append(require_repetition(verdict, value, verdicts[::-1]))
    return "".join(
        "x" if verdict.outcome == "fail" else "?" if verdict.action == "hold" else "." for verdict in verdicts
    )


@pytest.mark.parametrize(
    ("outcomes", "repetition", "expected"),
    [
        ("x.xx", "1 of 1", "x.xx"),
        ("x....x....", "2 of 3", "?....?...."),
        ("xxxx", "2 of 3", "?xxx"),
        ("x.x.x", "2 of 3", "?.x.x"),
        ("xxxxx", "3 of 3", "??xxx"),
        ("x..x", "2 of 3", "?..?"),
    ],
)
def test_single_evaluations_do_nothing(outcomes: str, repetition: str, expected: str) -> None:
    assert evaluate(outcomes, repetition) == expected


@given(st.text("x.", min_size=1, max_size=30), st.integers(1, 9), st.data())
def test_an_evaluation_fails_if_and_only_if_enough_were_beyond(outcomes: str, most: int, data: Any) -> None:
    needed = data.draw(st.integers(1, most))
    found = evaluate(outcomes, f"{needed} of {most}")
    for end in range(1, len(outcomes) + 1):
        enough = outcomes[max(0, end - most) : end].count("x") >= needed
        assert (found[end - 1] == "x") == (outcomes[end - 1] == "x" and enough)


def test_evaluations_of_another_value_do_not_count() -> None:
    value = WatchValue(value="drift", limit=0.3, action="retrain", repetition="2 of 3")
    fail = Verdict(check="drift", subject="m/1", outcome="fail", action="retrain", reason="")
    other = require_repetition(fail, msgspec.structs.replace(value, limit=0.5), [])
    assert require_repetition(fail, value, [other]).outcome == "undecided"
    same = require_repetition(fail, value, [])
    assert require_repetition(fail, value, [other, same]).outcome == "fail"


@pytest.mark.parametrize("text", ["3 of 2", "0 of 3", "2 of 10", "two of three", "2/3", ""])
def test_a_wrong_setting_is_an_error(text: str) -> None:
    setting = {"value": "drift", "limit": 0.3, "action": "retrain", "repetition": text}
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(setting, WatchValue)


def test_a_setting_is_read() -> None:
    value = msgspec.convert({"value": "drift", "limit": 0.3, "action": "retrain", "repetition": "2 of 3"}, WatchValue)
    assert parse_repetition(value) == (2, 3)
