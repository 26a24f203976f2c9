"""Tests with Tidemill's own checks: the schema and the gate, on the reference sample."""

from tidemill.clock import SystemClock
from tidemill.errors import TidemillError
from tidemill.flow.plan import plan
from tidemill.project.project import Project
from tidemill.testing.kit.failing import fail
from tidemill.testing.kit.training import SampleTraining

__tracebackhide__ = True


def require_schema(training: SampleTraining) -> None:
    """Require that the rows of the sample pass the schema and the checks of the data."""
    verdicts = training.find_verdicts("schema")
    if not verdicts:
        fail(
            f"pipeline {training.run.pipeline!r} does not check the schema of its rows",
            "ingest them with the step ingest of tidemill.recipes.ingestion",
        )
    for verdict in verdicts:
        if verdict.stops:
            fail(f"the rows of the sample do not pass the schema: {verdict.reason}", "correct the rows, or the schema")


def require_gate(training: SampleTraining) -> None:
    """Require that the gate judged the model of the sample, and did not refuse it.

    The limits that need many rows (the thresholds, the margins) do not apply to a sample.
    """
    if not training.sample.policy.gate.enabled:
        return
    verdicts = training.find_verdicts("gate")
    if not verdicts:
        fail(
            f"the gate did not judge the model of the sample: {training.run.error or 'no step calls it'}",
            "train with train_on of tidemill.recipes.training, or call the step gate",
        )
    for verdict in verdicts:
        if verdict.stops or verdict.outcome == "fail":
            fail(f"the gate refuses the model of the sample: {verdict.reason}", "correct what the gate names")


def require_plans(project: Project) -> None:
    """Require that each pipeline of the project can be planned."""
    for name, pipeline in project.code.pipelines.items():
        for model in project.policy.models:
            try:
                plan(pipeline, {"model": model}, project, SystemClock())
            except TidemillError as error:
                fail(f"pipeline {name!r} cannot be planned: {error.problem}", error.cure)


def require_watch(project: Project) -> None:
    """Require that each model is watched: a release without a watch gets no requests."""
    for name, model in project.policy.models.items():
        if not model.watch.values:
            fail(f"model {name!r} has no watch", "add [[watch.values]] to tidemill.toml")
