"""The data: the label, the schema, the gate, and no input that is known only after the prediction."""

import pytest

from tidemill.testing import kit


@pytest.mark.covers("label")
def test_the_label_has_its_type(sample: kit.Sample) -> None:
    kit.require_label(sample)


@pytest.mark.covers("label")
def test_no_step_changes_the_type_of_the_label(training_run: kit.SampleTraining) -> None:
    kit.require_kept_label(training_run)


@pytest.mark.covers("data")
def test_rows_pass_the_schema(training_run: kit.SampleTraining) -> None:
    kit.require_schema(training_run)


@pytest.mark.covers("gate")
def test_the_gate_accepts_the_model(trained: kit.SampleTraining) -> None:
    kit.require_gate(trained)


@pytest.mark.covers("leakage")
def test_inputs_are_known_at_the_prediction(sample: kit.Sample) -> None:
    kit.require_known_inputs(sample)


@pytest.mark.covers("leakage")
def test_no_input_explains_the_label_alone(sample: kit.Sample) -> None:
    kit.require_no_leak(sample)


@pytest.mark.covers("leakage")
def test_features_do_not_know_later_labels(sample: kit.Sample) -> None:
    kit.require_no_future(sample)
