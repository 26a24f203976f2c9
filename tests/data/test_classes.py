"""A label means a class in every spelling of that class, and no other value means one."""

from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.data.classes import match_classes
from tidemill.data.keys import to_class_names
from tidemill.errors import DataError

SPACES = st.sampled_from(["", " ", "\t", "  "])
WHOLE = st.integers(-(10**6), 10**6)
WORDS = st.text("abcxyzäß_- ", min_size=1).filter(lambda word: word == word.strip())


def spell_boolean(value: bool) -> list[Any]:
    number = int(value)
    return [
        value,
        number,
        float(number),
        str(value),
        str(value).lower(),
        str(value).upper(),
        f"{number}",
        f"{number}.0",
    ]


def spell_number(value: int) -> list[Any]:
    return [value, float(value), str(value), f"{value}.0", f"{value:.2f}", f"{value:e}", Decimal(value)]


@st.composite
def labels(draw: st.DrawFn) -> tuple[list[Any], Any, Any]:
    """The labels of a column of one type, one of them, and a spelling of it."""
    kind = draw(st.sampled_from(["boolean", "flag", "integer", "number", "text"]))
    match kind:
        case "boolean":
            classes: list[Any] = [False, True]
        case "flag":
            classes = [0, 1]
        case "integer":
            classes = draw(st.lists(WHOLE, min_size=2, max_size=6, unique=True))
        case "number":
            classes = [0.5, *map(float, draw(st.lists(WHOLE, min_size=1, max_size=5, unique=True)))]
        case _:
            classes = draw(st.lists(WORDS, min_size=2, max_size=6, unique=True))
    meant = draw(st.sampled_from(classes))
    if kind in ("boolean", "flag"):
        spellings = spell_boolean(bool(meant))
    elif kind == "text" or meant == 0.5:
        spellings = [meant]
    else:
        spellings = spell_number(int(meant))
    spelling = draw(st.sampled_from(spellings))
    return classes, meant, draw(SPACES) + spelling + draw(SPACES) if isinstance(spelling, str) else spelling


@given(labels())
def test_a_spelling_means_its_class_and_no_other(case: tuple[list[Any], Any, Any]) -> None:
    classes, meant, spelling = case
    names = to_class_names(pl.Series(classes)).to_list()
    expected = names[classes.index(meant)]
    assert match_classes(pl.Series([spelling]), names).to_list() == [expected]


@given(labels(), st.one_of(WORDS, st.integers(10**7), st.floats(2e6, 1e300), st.just("1_0"), st.just("nan")))
def test_any_other_value_means_no_class(case: tuple[list[Any], Any, Any], other: Any) -> None:
    names = to_class_names(pl.Series(case[0])).to_list()
    if other in case[0]:
        return
    if isinstance(other, str) and other.casefold() in ("true", "false"):
        return
    assert match_classes(pl.Series([other]), names).to_list() == [None]


@pytest.mark.parametrize(
    ("classes", "value", "expected"),
    [
        (["01", "1"], 1, "1"),
        (["01", "02"], 1, None),
        (["1", "1.0"], 1.0, "1.0"),
        (["1", "1.0"], "1.00", None),
        (["1", "2", "3"], True, None),
        (["0", "1", "2"], True, None),
        (["yes", "no"], True, None),
        (["yes", "no"], "Yes", None),
        (["False", "True"], 1, "True"),
        (["0", "1"], "yes", None),
        ([" open", "shut"], "open", " open"),
        (["9007199254740993", "9007199254740992"], 9007199254740993, "9007199254740993"),
        (["1", "2"], [1], None),
        (["1", "2"], "1e999999999999", None),
    ],
)
def test_what_is_ambiguous_means_no_class(classes: list[str], value: Any, expected: str | None) -> None:
    assert match_classes(pl.Series([value]), classes).to_list() == [expected]


@pytest.mark.parametrize(
    "values", [[[1], [2]], [{"a": 1}, {"a": 2}], [b"a", b"\xff"]], ids=["lists", "records", "bytes"]
)
def test_a_label_of_lists_records_or_bytes_is_refused(values: list[object]) -> None:
    with pytest.raises(DataError, match="the label 'y' has the type") as refusal:
        to_class_names(pl.Series("y", values))
    assert "choose another label" in refusal.value.cure
