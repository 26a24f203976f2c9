"""JSON Lines and an array of the same records are the same table, although different parsers read them."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tidemill.data.reading.json_rows import parse_json
from tidemill.data.storable import to_storable
from tidemill.errors import Unreadable

VALUES: list[st.SearchStrategy[Any]] = [
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([2**63 - 1, -(2**63), 2**63, 2**64, -(2**63) - 1, 2**126, 0]),
    st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False),
    st.booleans(),
    st.sampled_from(["", "x", "1", "2021-01-01", "\x00", "é", "🦙", "\ud83d"]),
    st.lists(st.integers(0, 3), max_size=2),
]


@st.composite
def records(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Return records with values of one type in each column, some of them null or absent."""
    columns = {name: draw(st.sampled_from(VALUES)) for name in "abc"[: draw(st.integers(1, 3))]}
    return [
        {name: draw(st.none() | values) for name, values in columns.items() if draw(st.integers(0, 5))}
        for _ in range(draw(st.integers(1, 5)))
    ]


def read(content: str, *, lines: bool) -> tuple[Any, Any]:
    """Return the types and values of the rows that are stored, or that the content is refused."""
    try:
        frame = to_storable(parse_json(content.encode(), "a.json", lines=lines), "a.json")
    except Unreadable:
        return "refused", None
    return frame.schema, frame.to_dict(as_series=False)


@given(records())
@settings(deadline=None, max_examples=300)
def test_lines_and_an_array_are_the_same_table(rows: list[dict[str, Any]]) -> None:
    lines = "\n".join(json.dumps(row) for row in rows)
    assert read(lines, lines=True) == read(json.dumps(rows), lines=False)
