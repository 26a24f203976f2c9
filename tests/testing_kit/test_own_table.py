"""The generated tests of the README project catch ten planted faults, each by its own kind of test."""

import pytest

from tests.testing_kit.copies import Results, list_failures, require_caught, run_copies
from tests.testing_kit.faults import FAULTS, Fault
from tests.testing_kit.places import make_own_table


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Results]:
    """The results of the tests without a fault, and with each fault."""
    return run_copies(make_own_table, tmp_path_factory.mktemp("copies"))


def test_the_sound_project_passes(results: dict[str, Results]) -> None:
    assert list_failures(results[""]) == {}
    assert {result["outcome"] for result in results[""].values()} == {"passed"}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_project_with_a_fault_fails_on_it(results: dict[str, Results], fault: Fault) -> None:
    require_caught(results[fault.name], fault)
