"""Inputs that a pipeline states: other values and other types are other inputs, equal ones are the same."""

import dataclasses
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from tests.flow.kit import Mill
from tidemill.core.pipeline import Pipeline, step
from tidemill.errors import ConfigurationError
from tidemill.flow.inputs import digest_value


class Kind(StrEnum):
    SLOW = "slow"


class Pair(NamedTuple):
    a: int
    b: int


class Point(Struct, frozen=True):
    a: int
    b: Any


@dataclasses.dataclass
class Spot:
    a: int
    b: Any


@step
def text_of(value: Any) -> str:
    return repr(value)


DIFFERENT = [
    *({0: 1.0, 1: 5.0}, {"0": 1.0, "1": 5.0}, {1: 5.0, 0: 1.0}, {"a": 1, "b": None}, {"a": 1}, {}, None, "None"),
    *(b"abc", "YWJj", "abc", bytearray(b"abc")),
    *(date(2026, 1, 2), "2026-01-02", datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 2)),
    *(datetime(2026, 1, 2, 1, tzinfo=timezone(timedelta(hours=1))), time(1), timedelta(1), "P1D"),
    *(Decimal("1.50"), Decimal("1.5"), "1.50", 1.5, 1, 1.0, True, False, 0, -0.0, 0.0, "1"),
    *({1, 2}, frozenset({1, 2}), [1, 2], (1, 2), {1: 2}, [[1], 2], [1, [2]], ["1", 2], Pair(1, 2), Point(1, 2)),
    *(Spot(1, 2), Point(1, 2.0), {"a": 1, "b": 2}, Kind.SLOW, "slow", [Kind.SLOW], ["slow"]),
    *(float("nan"), float("inf"), float("-inf"), [float("nan")], [None], "nan"),
    *(UUID(int=1), str(UUID(int=1)), Path("a"), "a", 10**30, float(10**30)),
]


def test_values_that_a_step_can_tell_apart_are_different_inputs() -> None:
    digests = {digest_value(value): value for value in DIFFERENT}
    assert len(digests) == len(DIFFERENT)


_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates() | st.decimals(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner) | st.tuples(inner, inner),
    max_leaves=6,
)


@given(_plain, _plain)
def test_two_values_share_a_digest_only_if_they_read_the_same(one: Any, other: Any) -> None:
    assert (digest_value(one) == digest_value(other)) == (repr(one) == repr(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({0: 1.0, 1: 5.0}, {"0": 1.0, "1": 5.0}),
        (b"abc", "YWJj"),
        (date(2026, 1, 2), "2026-01-02"),
        (Decimal("1.50"), "1.50"),
        ({1, 2}, [1, 2]),
        (1, 1.0),
        (True, 1),
        ({"a": 1, "b": None}, {"a": 1}),
        (Spot(1, 2), {"a": 1, "b": 2}),
    ],
    ids=repr,
)
def test_a_step_gets_what_the_pipeline_states_and_not_a_cached_result_for_another_type(
    mill: Mill, one: Any, other: Any
) -> None:
    for value in (one, other, one):
        done = mill.run(_stating(value))
        assert mill.value(done, "text_of").decode("utf-8-sig") == repr(value)
    assert mill.states(done) == {"text_of": "cached"}


def test_weights_by_number_can_be_a_parameter(mill: Mill) -> None:
    def go(weights: dict[int, float]) -> None:
        text_of(weights)

    done = mill.run(Pipeline(go), weights={0: 1.0, 1: 5.0})
    assert mill.value(done, "text_of").decode("utf-8-sig") == "{0: 1.0, 1: 5.0}"


def test_what_holds_itself_is_refused_with_a_cure() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(ConfigurationError, match="contains itself"):
        digest_value(value)


def test_what_nothing_certain_is_known_of_is_refused_with_a_cure() -> None:
    with pytest.raises(ConfigurationError, match="cannot pass a"):
        digest_value(object())


def _stating(value: Any) -> Pipeline:
    def go() -> None:
        text_of(value)

    return Pipeline(go)
