"""Fingerprints: the error profile of a candidate, by which its regime is recognized later."""

import polars as pl

from tidemill.checks.regime import ErrorProfile, profile_errors
from tidemill.core.model import Model
from tidemill.core.pipeline import step
from tidemill.core.policy import ModelPolicy
from tidemill.core.resources import Sources
from tidemill.core.run import Metrics
from tidemill.data.metrics import losses
from tidemill.recipes.scoring import score_rows, select_learned


@step
def measure_errors(
    model: Model, rows: pl.DataFrame, policy: ModelPolicy, sources: Sources, baseline_metrics: Metrics | None = None
) -> ErrorProfile:
    """Return the profile of a model's losses on rows that it has not learned, of the classes that it knows.

    `baseline_metrics` are the metrics of the trivial baseline on the same rows.
    """
    values = baseline_metrics.values if baseline_metrics is not None else {}
    baseline = values.get("log_loss")
    if policy.problem.task == "regression":
        baseline = values["rmse"] ** 2 if "rmse" in values else None
    rows = select_learned(model, rows, policy.problem)
    source = sources.definition(policy.problem.source)
    return profile_errors(losses(*score_rows(model, rows, policy.problem, source)), baseline)
