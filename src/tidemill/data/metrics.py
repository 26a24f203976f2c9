"""Metrics: how good answers are, as a whole and row by row."""

from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from tidemill.core.model import Task
from tidemill.errors import DataError

Floats = npt.NDArray[np.float64]
_TINY = 1e-15
_MOST_DRAWN = 5_000
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "error_rate", "rmse", "mae"})


class Truth(Struct, frozen=True):
    """What turned out: class numbers (integers) or numbers, shape (rows,), and the classes of a classification."""

    task: Task
    values: npt.NDArray[Any]
    classes: tuple[str, ...] = ()


def default_metric(task: Task) -> str:
    """The metric that decides where the project names none."""
    return "log_loss" if task == "classification" else "rmse"


def losses(truth: Truth, scores: Floats) -> Floats:
    """The loss of each row, shape (rows,): log loss (natural logarithm) or squared error.

    `scores` are probabilities, shape (rows, classes), or numbers, shape (rows,).
    """
    if truth.task == "regression":
        squared: Floats = (scores - truth.values.astype(float)) ** 2
        return squared
    hit = scores[np.arange(len(truth.values)), truth.values.astype(int)]
    loss: Floats = -np.log(np.clip(hit, _TINY, 1.0))
    return loss


def measure(truth: Truth, scores: Floats) -> dict[str, float]:
    """The usual metrics of a task: log loss, Brier score, error rate and ROC AUC, or RMSE, MAE and R²."""
    if not len(truth.values):
        raise DataError("there are no rows to measure on", "give labelled rows")
    if truth.task == "regression":
        return _regression(truth.values.astype(float), scores)
    hot = np.eye(len(truth.classes))[truth.values.astype(int)]
    found = {
        "log_loss": float(losses(truth, scores).mean()),
        "brier": float(((scores - hot) ** 2).sum(axis=1).mean()) / (2 if len(truth.classes) == 2 else 1),
        "error_rate": float((scores.argmax(axis=1) != truth.values).mean()),
    }
    if len(truth.classes) == 2 and 0 < hot[:, 1].sum() < len(hot):
        found["roc_auc"] = roc_auc(truth.values == 1, scores[:, 1])
    return found


def _regression(values: Floats, scores: Floats) -> dict[str, float]:
    errors = scores - values
    spread = float(((values - values.mean()) ** 2).sum())
    found = {"rmse": float(np.sqrt((errors**2).mean())), "mae": float(np.abs(errors).mean())}
    return found | ({"r2": 1 - float((errors**2).sum()) / spread} if spread > 0 else {})


def roc_auc(positive: npt.NDArray[np.bool_], scores: Floats) -> float:
    """The probability that a positive scores above a negative, ties counting half (Hanley & McNeil 1982)."""
    from scipy.stats import rankdata

    ranks = rankdata(scores)
    positives = int(positive.sum())
    negatives = len(positive) - positives
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def worse_by(metric: str, now: float, reference: float) -> float:
    """How much worse a metric is than its reference: above 0 is worse."""
    return now - reference if metric in LOWER_IS_BETTER else reference - now


def bootstrap_interval(differences: Floats, confidence: float, seed: int = 0, draws: int = 400) -> tuple[float, float]:
    """A percentile bootstrap interval for a mean (Efron 1979), on at most 5,000 rows."""
    generator = np.random.default_rng(seed)
    sample = (
        differences if len(differences) <= _MOST_DRAWN else generator.choice(differences, _MOST_DRAWN, replace=False)
    )
    # Poisson weights stand in for drawing with replacement: one matrix product for all draws.
    weights = generator.poisson(1.0, size=(draws, len(sample))).astype(np.float32)
    means = weights @ sample.astype(np.float32) / np.maximum(weights.sum(axis=1), 1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    shift = float(differences.mean() - sample.mean())
    return float(low) + shift, float(high) + shift
