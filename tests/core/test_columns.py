"""Names that no table can have are refused, and the suggested name works."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.core.columns import PATH, PREFIX, is_internal, require_usable_names
from tidemill.errors import Unreadable

RESERVED = (PATH, PREFIX, f"{PREFIX}time", "^a.*$", "^$", "*", "a\0b", f"{PREFIX}{PREFIX}x", f"{PREFIX}^x$", "\0")


@pytest.mark.parametrize("name", RESERVED)
def test_a_reserved_name_is_refused_with_a_name_that_works(name: str) -> None:
    with pytest.raises(Unreadable, match="the table has a column") as refusal:
        require_usable_names(["x", name], "the table")
    suggested = re.search("for example to '(.*)'", refusal.value.cure)
    assert suggested is not None
    require_usable_names([suggested[1]], "the table")


@given(st.text(st.characters(codec="utf-8"), max_size=8))
def test_a_name_that_is_not_internal_and_no_pattern_is_accepted(name: str) -> None:
    if not is_internal(name) and "\0" not in name and name != "*" and not name.startswith("^"):
        require_usable_names([name], "the table")
