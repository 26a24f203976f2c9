"""Short files without quotes are split in Python, because it is faster: the result is that of Polars."""

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from tidemill.data.reading import delimited
from tidemill.data.reading.delimited import parse_delimited
from tidemill.errors import Unreadable

_CELLS = st.sampled_from(
    ("", " ", "  x", "1", "-", "NA", "Ünï", "\u2028", "\x00", "\ufeff", "\x0c", "#", "a\tb")
) | st.text(st.characters(exclude_characters="\n,;", exclude_categories=["Cs"]), max_size=4)


def _parse(content: bytes, separator: str) -> pl.DataFrame | str:
    try:
        return parse_delimited(content, separator, "rows.csv")
    except Unreadable as error:
        return error.problem


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.lists(_CELLS, min_size=1, max_size=4), min_size=1, max_size=5),
    st.integers(1, 4),
    st.sampled_from(",;"),
    st.sampled_from(("", "\n", "\n\n")),
)
def test_short_files_have_the_rows_of_long_ones(rows: list[list[str]], width: int, separator: str, end: str) -> None:
    header = [f"c{position}" for position in range(width)]
    complete = [(row * width)[:width] if len(row) % 2 else row for row in rows]
    content = ("\n".join(separator.join(row) for row in [header, *complete]) + end).encode()
    short, delimited._SHORT = delimited._SHORT, -1
    try:
        expected = _parse(content, separator)
    finally:
        delimited._SHORT = short
    found = _parse(content, separator)
    if isinstance(expected, str):
        assert found == expected
        return
    assert isinstance(found, pl.DataFrame)
    assert_frame_equal(found, expected)


def test_plain_rows_are_split() -> None:
    assert delimited._split_plain(b"a,b\n1,\n,x\n", ",", 2) is not None
    assert delimited._split_plain(b'a,b\n1,"2"\n', ",", 2) is None
    assert delimited._split_plain(b"a,b\n1\n", ",", 2) is None
