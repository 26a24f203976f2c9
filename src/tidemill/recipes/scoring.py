"""Scores a model on rows: what it answers without the columns that are known later, and the truth beside."""

from hashlib import sha256
from typing import NamedTuple

import numpy as np
import polars as pl

from tidemill.checks.comparison import hold_answers
from tidemill.checks.gate import Finding
from tidemill.core.metric import MetricVersion
from tidemill.core.model import Model
from tidemill.core.policy import Problem
from tidemill.core.resources import ProjectMetrics
from tidemill.core.source import Source
from tidemill.data.arrays import Floats
from tidemill.data.frame import KNOWN_AT, TIME
from tidemill.data.metrics import Truth, losses
from tidemill.errors import ConfigurationError
from tidemill.models.inputs import load_samples
from tidemill.models.load import load_cached
from tidemill.training.evaluate import filter_classes, to_truth

_ASKED_AGAIN = 1_000


def digest_rows(rows: pl.DataFrame, problem: Problem, source: Source) -> str:
    """The digest of test rows: by their key, time and label, or by all of their columns where they have no key."""
    keyed = bool(source.key) and set(source.key) <= set(rows.columns)
    names = (*source.key, TIME, problem.label) if keyed else tuple(name for name in rows.columns if name != KNOWN_AT)
    plain = [name for name in dict.fromkeys(names) if not rows.schema[name].is_nested()]
    return sha256(rows.select(plain).hash_rows().sort().to_numpy().tobytes()).hexdigest()


class Candidate(NamedTuple):
    """A candidate and its answers to the test rows whose class it has learned: asked once, some of them twice."""

    model: Model
    rows: pl.DataFrame
    truth: Truth
    scores: Floats
    again: Floats
    losses: Floats

    @property
    def answers(self) -> list[Finding]:
        """Whether its answers are finite numbers or probabilities, and the same when it is asked again."""
        return hold_answers(self.scores, self.losses, self.again)

    @property
    def measurable(self) -> bool:
        """Whether each row has a loss."""
        return bool(np.isfinite(self.losses).all())


def score_candidate(model: Model, test: pl.DataFrame, problem: Problem, source: Source) -> Candidate:
    """Ask a candidate for the test rows."""
    rows = select_learned(model, test, problem)
    truth, scores = score_rows(model, rows, problem, source)
    again = score_rows(model, rows.head(_ASKED_AGAIN), problem, source)[1]
    return Candidate(model, rows, truth, scores, again, losses(truth, scores))


def select_learned(model: Model, rows: pl.DataFrame, problem: Problem) -> pl.DataFrame:
    """The rows whose class a model has learned; all of them where it has learned none, which is an error later."""
    known = filter_classes(rows, problem.label, model.manifest.signature.classes)
    return known if known.height else rows


def score_rows(model: Model, rows: pl.DataFrame, problem: Problem, source: Source) -> tuple[Truth, Floats]:
    """The truth of rows, and a model's scores without the columns that are not known when it is asked."""
    scores = score(model, rows.drop(source.later, strict=False))
    return to_truth(rows[problem.label], problem.task, model.manifest.signature.classes), scores


def score(model: Model, rows: pl.DataFrame) -> Floats:
    """A model's numbers, shape (rows,), or its probabilities, shape (rows, classes)."""
    answers = load_cached(model).predict(rows)
    return answers.probabilities if answers.probabilities is not None else np.asarray(answers.values, float)


def score_samples(model: Model) -> Floats:
    """The answers of this process to the sample rows of a package."""
    return score(model, load_samples(model))


def measure_own(
    metrics: list[MetricVersion], own: ProjectMetrics, truth: Truth, scores: Floats, rows: pl.DataFrame
) -> dict[str, float]:
    """The project's own metrics of these scores.

    Raises
    ------
    ConfigurationError
        if a metric is not a finite number.
    """
    if not metrics:
        return {}
    names = np.array(truth.classes)
    given = {
        "truth": names[truth.values.astype(int)] if len(names) else truth.values,
        "predicted": names[scores.argmax(axis=1)] if len(names) else scores,
        "probabilities": scores,
        "rows": rows,
    }
    values = {}
    for wanted in metrics:
        metric = own.metric(wanted.name)
        value = values[wanted.name] = float(metric(**{name: given[name] for name in metric.parameters}))
        if not np.isfinite(value):
            raise ConfigurationError(
                f"metric {wanted.name!r} of the project gave {value} for {rows.height} rows",
                "let it give a finite number for any rows, in pipeline.py",
            )
    return values
