"""Features: transformations, views, and equal values in training and serving. Add tests of your own functions."""

import pytest

from tidemill.testing import kit


@pytest.mark.covers("feature_logic")
def test_transformations_compute_each_row_alone(sample: kit.Sample) -> None:
    kit.require_row_wise(sample)


@pytest.mark.covers("offline_online")
def test_training_and_serving_have_equal_features(training_run: kit.SampleTraining) -> None:
    kit.require_offline_online(training_run)


@pytest.mark.covers("finite")
def test_features_are_finite(sample: kit.Sample) -> None:
    kit.require_finite_features(sample)
