"""The model: its encoders, its convergence, its predictions, and equal results of two trainings."""

import pytest

from tidemill.testing import kit


@pytest.mark.covers("model_methods")
def test_encoders_keep_each_level(trained: kit.SampleTraining) -> None:
    kit.require_encoders(trained)


@pytest.mark.covers("model_methods")
def test_an_unseen_level_is_predicted(trained: kit.SampleTraining) -> None:
    kit.require_unseen_level(trained)


@pytest.mark.covers("convergence")
def test_the_loss_falls(trained: kit.SampleTraining) -> None:
    kit.require_falling_loss(trained)


@pytest.mark.covers("convergence")
def test_a_model_overfits_a_few_records(sample: kit.Sample) -> None:
    kit.require_overfit(sample)


@pytest.mark.covers("finite")
def test_predictions_are_finite(trained: kit.SampleTraining) -> None:
    kit.require_finite_predictions(trained)


@pytest.mark.covers("determinism")
def test_two_trainings_are_equal(trained: kit.SampleTraining, trained_again: kit.SampleTraining) -> None:
    kit.require_equal_trainings(trained, trained_again)
