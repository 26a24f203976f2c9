"""Columns of few values are typed in Python, because it is faster: the result is that of many values."""

import re

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_series_equal

from tidemill.core.dialect import Dialect
from tidemill.core.schema import ColumnType
from tidemill.data.reading.values import NULLS, NULLS_OF_VALUES, type_column
from tidemill.errors import Unreadable

_MANY = 150
_WORDS = (
    *("1", "-7", "+7", "0", "00569", "+491234567", "1.5", "-0.5", "1e5", "inf", "nan", "99999999999999999999"),
    *(
        "1,234.5",
        "1.234,5",
        " 3",
        "4\u00a0",
        "true",
        "TRUE",
        "False",
        "yes",
        "N",
        "\u212a",
        "2026-03-01",
        "2026-03-01T12:30:00",
    ),
    *("2026-03-01T12:30:00Z", "2026-03-01 12:30:00", "2026-13-01", "1\n", "007\n", "x", "Ünïcode", "5%", " 5 %"),
    *NULLS[:4],
    *NULLS_OF_VALUES[:6],
)
_DIALECTS = (
    Dialect(),
    Dialect(decimal=",", thousands="."),
    Dialect(nulls=("x", "0")),
    Dialect(units={"c": "%"}),
)
_TYPES: tuple[ColumnType | None, ...] = (None, "integer", "number", "text", "boolean", "time", "date")


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.none() | st.sampled_from(_WORDS) | st.text(max_size=6), min_size=1, max_size=5),
    st.sampled_from(_DIALECTS),
    st.sampled_from(_TYPES),
)
def test_few_values_have_the_type_of_many(texts: list[str | None], dialect: Dialect, kind: ColumnType | None) -> None:
    few = pl.Series("c", texts, dtype=pl.String)
    many = pl.concat([few] * _MANY)
    try:
        expected = type_column(many, dialect, kind)
    except Unreadable as error:
        with pytest.raises(Unreadable, match=re.escape(error.problem)):
            type_column(few, dialect, kind)
        return
    assert_series_equal(type_column(few, dialect, kind), expected.head(len(few)))
