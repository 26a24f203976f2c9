"""Booleans: a declared column of booleans is read in each usual writing; without a declaration, only true and false."""

from collections.abc import Callable
from io import BytesIO

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.core.schema import ColumnType
from tidemill.data.tables import parse_table

WRITINGS = [("true", "false"), ("T", "F"), ("yes", "no"), ("Y", "N"), ("1", "0")]


def read(values: list[str], kind: ColumnType | None) -> pl.Series:
    content = "\n".join(["flag,row", *(f"{value},{row}" for row, value in enumerate(values)), ""])
    types = {"flag": kind} if kind else None
    return parse_table(BytesIO(content.encode()), "table.csv", types=types)["flag"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.none() | st.booleans(), min_size=1, max_size=12).filter(any),
    st.sampled_from(WRITINGS),
    st.sampled_from([str.lower, str.upper, str.title]),
    st.sampled_from(["", "NA", "-"]),
)
def test_declared_booleans_are_read_in_each_writing(
    flags: list[bool | None], writing: tuple[str, str], case: Callable[[str], str], null: str
) -> None:
    true, false = map(case, writing)
    values = [null if flag is None else true if flag else false for flag in flags]
    assert read(values, "boolean").to_list() == flags
    if writing != ("true", "false"):
        assert read(values, None).dtype in (pl.String, pl.Int64)


@pytest.mark.parametrize("values", [["yes", "maybe"], ["1", "2"], ["T", "x"]])
def test_other_words_are_no_booleans(values: list[str]) -> None:
    assert read(values, "boolean").dtype != pl.Boolean
