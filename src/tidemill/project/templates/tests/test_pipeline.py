"""The pipeline: its steps return what they declare, fit together, and print no secret."""

import pytest

from tidemill.testing import kit


@pytest.mark.covers("integration")
def test_every_pipeline_can_be_planned(project: kit.Project) -> None:
    kit.require_plans(project)


def test_every_model_is_watched(project: kit.Project) -> None:
    kit.require_watch(project)


@pytest.mark.covers("artifacts")
def test_steps_return_what_they_declare(training_run: kit.SampleTraining) -> None:
    kit.require_declared_artifacts(training_run)


@pytest.mark.covers("integration")
def test_steps_fit_together(sample: kit.Sample, training_pipeline: str) -> None:
    kit.require_fitting_steps(sample, training_pipeline)


@pytest.mark.covers("integration")
def test_the_pipeline_trains_on_a_sample(training_run: kit.SampleTraining) -> None:
    kit.require_finished(training_run)


@pytest.mark.covers("secrets")
def test_no_secret_is_printed(training_run: kit.SampleTraining, planted_secrets: dict[str, str]) -> None:
    kit.require_no_secret(training_run, planted_secrets)
