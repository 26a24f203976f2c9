"""No edit of a program that changes what a step returns leaves its fingerprint as it was."""

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.flow.programs import explore, loaded_from, observed, program, relaid

_EDITS = 12
# How programs load code by names that only the run knows: then every file counts.
_LOADERS = ("eval(", "import_module(where", "'lib.' + NAME", "sys.modules")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("programs") / "project"
    with loaded_from(place):
        yield place


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_an_edit_that_changes_a_result_changes_the_fingerprint(folder: Path, seed: int) -> None:
    _, _, stale = explore(Random(seed), folder, _EDITS)
    assert not stale, stale[0]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_comments_docstrings_and_layout_change_nothing(folder: Path, seed: int) -> None:
    random = Random(seed)
    sources = program(random)
    if any("__doc__" in text for text in sources.values()):
        return  # its docstrings are data
    assert observed(folder, relaid(random, sources)) == observed(folder, sources)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_a_module_that_is_not_reached_changes_nothing(folder: Path, seed: int) -> None:
    sources = program(Random(seed))
    before = observed(folder, sources)
    assert before is not None
    if any(word in text for text in sources.values() for word in _LOADERS):
        return
    assert observed(folder, sources | {"unused.py": "def clean(x):\n    return x + 6\n"}) == before
