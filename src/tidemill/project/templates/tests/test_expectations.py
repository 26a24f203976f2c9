"""What you know of the problem: state it in expectations.toml."""

from pathlib import Path

import pytest

from tidemill.testing import kit


@pytest.mark.covers("expectations")
def test_predictions_depend_on_their_row_only(trained: kit.SampleTraining) -> None:
    kit.require_order_invariance(trained)


@pytest.mark.covers("expectations")
def test_expectations_hold(trained: kit.SampleTraining) -> None:
    kit.require_expectations(trained, kit.read_expectations(Path(__file__).with_name("expectations.toml")))
