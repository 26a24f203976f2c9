"""The request that is shown for a model, for any names and values."""

import json
import shlex

from hypothesis import given
from hypothesis import strategies as st

from tidemill.models.usage import build_curl, choose_example

VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()


@given(st.dictionaries(st.text(), VALUES))
def test_a_shell_sends_the_row(row: dict[str, object]) -> None:
    program, option, body, address = shlex.split(build_curl("late", row))
    assert (program, option, address) == ("curl", "-d", "http://127.0.0.1:8000/predict/late")
    assert json.loads(body) == {"rows": [row]}


def test_the_example_is_the_most_complete_row() -> None:
    assert choose_example([{"a": 1, "b": 2}, {"a": 3, "b": 4}, {"a": None, "b": 5}]) == {"a": 3, "b": 4}
    assert choose_example([]) is None
