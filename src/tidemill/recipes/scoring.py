"""Scores a model on rows: its predictions without the columns that are known later, and the true labels."""

from hashlib import sha256
from typing import NamedTuple

import numpy as np
import polars as pl

from tidemill.checks.comparison import check_predictions
from tidemill.checks.gate import Finding
from tidemill.core.columns import KNOWN_AT, ROW_ID, TIME
from tidemill.core.metric import MetricVersion, ProjectMetrics
from tidemill.core.model import Model
from tidemill.core.policy import Problem
from tidemill.core.source import Source
from tidemill.data.arrays import Floats
from tidemill.data.frame import require_one_answer_each
from tidemill.data.metrics import Truth, losses
from tidemill.errors import ConfigurationError
from tidemill.models.inputs import load_samples
from tidemill.models.load import load_cached
from tidemill.training.evaluate import filter_classes, to_truth

_REPEATED_ROWS = 1_000


def digest_rows(rows: pl.DataFrame, problem: Problem, source: Source) -> str:
    """Return the digest of test rows: of their key, time and label, or of all columns if they have no key."""
    keyed = bool(source.key) and set(source.key) <= set(rows.columns)
    names = (
        (*source.key, TIME, problem.label)
        if keyed
        else tuple(name for name in rows.columns if name not in (KNOWN_AT, ROW_ID))
    )
    schema = rows.schema
    plain = [name for name in dict.fromkeys(names) if not schema[name].is_nested()]
    return sha256(rows.select(plain).hash_rows().sort().to_numpy().tobytes()).hexdigest()


class SplitRows(NamedTuple):
    """The rows of one training: for the fit, for the choice of parameters (if there is one), and for the test."""

    train: pl.DataFrame
    validation: pl.DataFrame | None
    test: pl.DataFrame

    @property
    def learned(self) -> pl.DataFrame:
        """The training and validation rows: the model has learned from both (validation chooses parameters)."""
        return self.train if self.validation is None else pl.concat([self.train, self.validation])

    @property
    def held_out(self) -> pl.DataFrame:
        """The validation and test rows: the estimator was not fitted on them."""
        return self.test if self.validation is None else pl.concat([self.validation, self.test])


class Candidate(NamedTuple):
    """A candidate and its scores for the test rows of its classes; `repeated_scores` are of a second run on some."""

    model: Model
    rows: pl.DataFrame
    truth: Truth
    scores: Floats
    repeated_scores: Floats
    losses: Floats

    @property
    def prediction_findings(self) -> list[Finding]:
        """Findings on whether its predictions are finite numbers or probabilities, and the same in the second run."""
        return check_predictions(self.scores, self.losses, self.repeated_scores)

    @property
    def measurable(self) -> bool:
        """Return whether each row has a loss."""
        return bool(np.isfinite(self.losses).all())


def score_candidate(model: Model, test: pl.DataFrame, problem: Problem, source: Source) -> Candidate:
    """Score a candidate on the test rows."""
    rows = select_learned(model, test, problem)
    truth, scores = score_rows(model, rows, problem, source)
    repeated_scores = score_rows(model, rows.head(_REPEATED_ROWS), problem, source)[1]
    return Candidate(model, rows, truth, scores, repeated_scores, losses(truth, scores))


def select_learned(model: Model, rows: pl.DataFrame, problem: Problem) -> pl.DataFrame:
    """Return the rows whose class a model was trained on; if there are none, return all rows (a later step raises)."""
    known = filter_classes(rows, problem.label, model.manifest.signature.classes)
    return known if known.height else rows


def score_rows(model: Model, rows: pl.DataFrame, problem: Problem, source: Source) -> tuple[Truth, Floats]:
    """Return the true labels, and a model's scores without the columns that are unknown at prediction time."""
    scores = score(model, rows.drop(source.later, strict=False))
    return to_truth(rows[problem.label], problem.task, model.manifest.signature.classes), scores


def score(model: Model, rows: pl.DataFrame) -> Floats:
    """Return a model's numbers, shape (rows,), or its probabilities, shape (rows, classes)."""
    predictions = load_cached(model).predict(rows)
    require_one_answer_each(rows.height, len(predictions.values), f"model {model.manifest.name!r}")
    if predictions.probabilities is not None:
        return predictions.probabilities
    return np.asarray(predictions.values, float)


def score_samples(model: Model) -> Floats:
    """Score the sample rows of a package in this process."""
    return score(model, load_samples(model))


def measure_project_metrics(
    metrics: list[MetricVersion], project_metrics: ProjectMetrics, truth: Truth, scores: Floats, rows: pl.DataFrame
) -> dict[str, float]:
    """Return the values of the project's own metrics.

    Raises
    ------
    ConfigurationError
        if a metric is not a finite number.
    """
    if not metrics:
        return {}
    names = np.array(truth.classes)
    arguments = {
        "truth": names[truth.values.astype(int)] if len(names) else truth.values,
        "predicted": names[scores.argmax(axis=1)] if len(names) else scores,
        "probabilities": scores,
        "rows": rows,
    }
    values = {}
    for version in metrics:
        metric = project_metrics.metric(version.name)
        value = values[version.name] = float(metric(**{name: arguments[name] for name in metric.parameters}))
        if not np.isfinite(value):
            raise ConfigurationError(
                f"metric {version.name!r} of the project returned {value} for {rows.height} rows",
                "return a finite number for any rows, in pipeline.py",
            )
    return values
