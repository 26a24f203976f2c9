"""Computes metrics of predictions, as a whole and for each row."""

from collections.abc import Callable
from functools import cache
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
from msgspec import Struct

from tidemill.core.metric import METRICS, find_metric_info
from tidemill.core.model import PredictionTask
from tidemill.data.arrays import Booleans, Floats
from tidemill.errors import DataError

_TINY = 1e-15
_MAX_DRAWN_ROWS = 5_000
_DRAWS = 400


class Truth(Struct, frozen=True):
    """The true labels: class indices or numbers, shape (rows,), and the classes of a classification."""

    task: PredictionTask
    values: npt.NDArray[Any]
    classes: tuple[str, ...] = ()


def restrict_classes(truth: Truth, scores: Floats, wanted: tuple[str, ...]) -> tuple[Truth, Floats]:
    """Return truth and scores with only the classes `wanted`; the label of every row is one of these."""
    new_indices = np.array([wanted.index(name) if name in wanted else -1 for name in truth.classes])
    return Truth(truth.task, new_indices[truth.values], wanted), renormalize(wanted, scores, truth.classes)


def renormalize(wanted: tuple[str, ...], scores: Floats, classes: tuple[str, ...]) -> Floats:
    """Return the probabilities of the classes `wanted`, divided by their sum, shape (rows, wanted)."""
    wanted_scores = scores[:, [classes.index(name) for name in wanted]]
    return np.asarray(wanted_scores / np.maximum(wanted_scores.sum(axis=1, keepdims=True), _TINY))


def losses(truth: Truth, scores: Floats) -> Floats:
    """Return the loss of each row, shape (rows,): log loss (natural logarithm) or squared error.

    `scores` are probabilities, shape (rows, classes), or numbers, shape (rows,).
    """
    if truth.task == "regression":
        squared: Floats = (scores - truth.values.astype(float)) ** 2
        return squared
    hit = scores[np.arange(len(truth.values)), truth.values.astype(int)]
    loss: Floats = -np.log(np.clip(hit, _TINY, 1.0))
    return loss


def measure(truth: Truth, scores: Floats) -> dict[str, float]:
    """Compute the standard metrics of a task: log loss, Brier score, error rate and ROC AUC, or RMSE, MAE and R²."""
    if not len(truth.values):
        raise DataError("there are no rows to measure on", "use labelled rows")
    metrics = {name: float(values.mean()) for name, values in _compute_row_values(truth, scores).items()}
    if truth.task == "regression":
        metrics["rmse"] = float(np.sqrt(metrics["rmse"]))
    return metrics | _compute_defined(_STANDARD, truth, scores)


def _compute_defined(functions: "dict[str, _Function]", truth: Truth, scores: Floats) -> dict[str, float]:
    """Return the metrics of these functions that are for the task and defined on these labels."""
    values = {name: compute(truth, scores) for name, compute in functions.items() if truth.task in METRICS[name].tasks}
    return {name: value for name, value in values.items() if value is not None}


def _r2(truth: Truth, scores: Floats) -> float | None:
    known = truth.values.astype(float)
    spread = float(((known - known.mean()) ** 2).sum())
    off = float(((scores - known) ** 2).sum())
    return 1 - off / spread if spread > 0 else None


def _binary_roc_auc(truth: Truth, scores: Floats) -> float | None:
    return roc_auc(truth.values == 1, scores[:, 1]) if _has_both_classes(truth) else None


def _compute_row_values(truth: Truth, scores: Floats) -> dict[str, Floats]:
    """Return the values whose means are the metrics, each of shape (rows,); for the RMSE, the squared errors."""
    if truth.task == "regression":
        errors = scores - truth.values.astype(float)
        return {"rmse": errors**2, "mae": np.abs(errors)}
    hot = np.eye(len(truth.classes))[truth.values.astype(int)]
    return {
        "log_loss": losses(truth, scores),
        "brier": ((scores - hot) ** 2).sum(axis=1) / (2 if len(truth.classes) == 2 else 1),
        "error_rate": (scores.argmax(axis=1) != truth.values).astype(float),
    }


def _has_both_classes(truth: Truth) -> bool:
    """Return whether there are two classes, and rows of each class."""
    return len(truth.classes) == 2 and 0 < int((truth.values == 1).sum()) < len(truth.values)


def roc_auc(positive: Booleans, scores: Floats) -> float:
    """Return the probability that a positive scores above a negative; ties count half (Hanley & McNeil 1982)."""
    if np.isnan(scores).any():
        return float("nan")
    _, groups, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum() - (counts - 1) / 2)[groups]  # equal scores have the mean of their ranks
    positives = int(positive.sum())
    negatives = len(positive) - positives
    return float((ranks[positive].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def standard_error(metric: str, truth: Truth, scores: Floats) -> float:
    """Return the standard error of a metric on these rows; 0 if it is not known.

    The rows are assumed to be independent. For the ROC AUC, it is the standard error of Hanley & McNeil (1982).
    """
    rows = len(truth.values)
    if rows < 2 or not np.isfinite(scores).all():
        return 0.0
    if metric == "roc_auc":
        return _compute_area_error(truth.values == 1, scores[:, 1]) if _has_both_classes(truth) else 0.0
    values = _compute_row_values(truth, scores).get(metric)
    if values is None:
        return 0.0
    error = float(values.std(ddof=1) / np.sqrt(rows))
    # The error of a square root is the error of the square, divided by twice the root.
    return error / (2 * max(float(np.sqrt(values.mean())), _TINY)) if metric == "rmse" else error


def _compute_area_error(positive: Booleans, scores: Floats) -> float:
    positives = int(positive.sum())
    negatives = len(positive) - positives
    area = roc_auc(positive, scores)
    two_positives, two_negatives = area / (2 - area), 2 * area**2 / (1 + area)
    spread = (
        area * (1 - area) + (positives - 1) * (two_positives - area**2) + (negatives - 1) * (two_negatives - area**2)
    )
    return float(np.sqrt(spread / (positives * negatives)))


def worse_by(metric: str, now: float, reference: float) -> float:
    """Return by how much a metric is worse than its reference: above 0 is worse."""
    return reference - now if find_metric_info(metric).greater_is_better else now - reference


def measure_more(truth: Truth, scores: Floats) -> dict[str, float]:
    """Compute further metrics: precision, recall, F1, average precision; ROC AUC over classes; median error."""
    return _compute_defined(_FURTHER, truth, scores)


def _median_error(truth: Truth, scores: Floats) -> float:
    return float(np.median(np.abs(scores - truth.values.astype(float))))


def _precision(truth: Truth, scores: Floats) -> float | None:
    return float(_compute_class_scores(truth, scores)[0][1]) if len(truth.classes) == 2 else None


def _recall(truth: Truth, scores: Floats) -> float | None:
    return float(_compute_class_scores(truth, scores)[1][1]) if len(truth.classes) == 2 else None


def _f1(truth: Truth, scores: Floats) -> float:
    """Return the F1 of the positive class; with more than two, the mean over the classes in truth or predictions."""
    balanced = _compute_class_scores(truth, scores)[2]
    if len(truth.classes) == 2:
        return float(balanced[1])
    return float(np.mean(balanced[np.union1d(truth.values.astype(int), scores.argmax(axis=1))]))


def _average_precision(truth: Truth, scores: Floats) -> float | None:
    positive = truth.values.astype(int) == 1
    return average_precision(positive, scores[:, 1]) if len(truth.classes) == 2 and positive.any() else None


def _roc_auc_over_classes(truth: Truth, scores: Floats) -> float | None:
    if len(truth.classes) == 2:
        return None
    values = truth.values.astype(int)
    areas = [
        roc_auc(values == index, scores[:, index])
        for index in range(len(truth.classes))
        if 0 < (values == index).sum() < len(values)
    ]
    return float(np.mean(areas)) if areas else None


_Function = Callable[[Truth, Floats], float | None]
# The metrics that are not means over rows (see `_compute_row_values`).
_STANDARD: dict[str, _Function] = {"r2": _r2, "roc_auc": _binary_roc_auc}
_FURTHER: dict[str, _Function] = {
    "median_error": _median_error,
    "precision": _precision,
    "recall": _recall,
    "f1": _f1,
    "average_precision": _average_precision,
    "roc_auc": _roc_auc_over_classes,
}


def _compute_class_scores(truth: Truth, scores: Floats) -> tuple[Floats, Floats, Floats]:
    """Return precision, recall and F1, each of shape (classes,); 0 for a class without predictions or without rows."""
    values, predicted, classes = truth.values.astype(int), scores.argmax(axis=1), len(truth.classes)
    hits = np.bincount(values[values == predicted], minlength=classes)
    chosen, true = np.bincount(predicted, minlength=classes), np.bincount(values, minlength=classes)
    return hits / np.maximum(chosen, 1), hits / np.maximum(true, 1), 2 * hits / np.maximum(chosen + true, 1)


def average_precision(positive: Booleans, scores: Floats) -> float:
    """Return the mean precision over the steps of recall; rows with the same score are one step."""
    hits, counts = (steps[1:] for steps in _count_above_scores(positive, scores))
    gained = np.diff(hits, prepend=0.0)
    return float((gained / hits[-1] * hits / counts).sum())


def _count_above_scores(positive: Booleans, scores: Floats) -> tuple[Floats, Floats]:
    """Return the numbers of positive rows and of all rows at or above each distinct score, highest first, after a 0."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=np.nan))
    hits = np.cumsum(positive[order])[last].astype(float)
    return np.concatenate(([0.0], hits)), np.concatenate(([0.0], last + 1.0))


def roc_curve(positive: Booleans, scores: Floats) -> tuple[Floats, Floats]:
    """Return false and true positive rates at each distinct score, from 0 to 1."""
    hits, counts = _count_above_scores(positive, scores)
    return (counts - hits) / max(counts[-1] - hits[-1], 1), hits / max(hits[-1], 1)


def precision_curve(positive: Booleans, scores: Floats) -> tuple[Floats, Floats]:
    """Return recall and precision at each distinct score, from the highest score down."""
    hits, counts = (steps[1:] for steps in _count_above_scores(positive, scores))
    return hits / max(hits[-1], 1), hits / counts


def intervals(truth: Truth, scores: Floats, confidence: float, *, areas: bool = True) -> dict[str, tuple[float, float]]:
    """Return percentile bootstrap intervals (Efron 1979) of the metrics that are means over rows.

    `areas` adds the ROC AUC, which is the slowest. At most 5,000 rows are used; with more rows, the intervals are a
    little too wide.
    """
    if len(truth.values) > _MAX_DRAWN_ROWS:
        kept = np.random.default_rng(0).choice(len(truth.values), _MAX_DRAWN_ROWS, replace=False)
        truth, scores = Truth(truth.task, truth.values[kept], truth.classes), scores[kept]
    by_row = _compute_row_values(truth, scores)
    drawn = dict(zip(by_row, _means(np.column_stack(list(by_row.values()))).T, strict=True))
    if truth.task == "regression":
        drawn["rmse"] = np.sqrt(drawn["rmse"])
    elif areas and _has_both_classes(truth):
        drawn["roc_auc"] = _areas(truth.values == 1, scores[:, 1])
    tail = (1 - confidence) / 2
    bounds = {name: np.quantile(values, (tail, 1 - tail)) for name, values in drawn.items()}
    return {name: (float(low), float(high)) for name, (low, high) in bounds.items()}


def _means(columns: Floats) -> npt.NDArray[Any]:
    """Return the mean of each column in each draw, shape (draws, columns)."""
    weights = _weights()[:, : len(columns)]
    means: npt.NDArray[Any] = weights @ columns.astype(np.float32) / np.maximum(weights.sum(axis=1), 1)[:, None]
    return means


def _areas(positive: Booleans, scores: Floats) -> npt.NDArray[Any]:
    """Return the ROC AUC in every fourth draw."""
    order = np.argsort(scores, kind="stable")
    weights = _weights()[::4, : len(scores)][:, order]
    first = np.flatnonzero(np.diff(scores[order], prepend=np.nan))
    hits = np.add.reduceat(weights * positive[order], first, axis=1)
    misses = np.add.reduceat(weights * ~positive[order], first, axis=1)
    below = np.cumsum(misses, axis=1) - misses / 2
    areas: npt.NDArray[Any] = (hits * below).sum(axis=1) / np.maximum(hits.sum(axis=1) * misses.sum(axis=1), 1)
    return areas


def normal_quantile(share: float) -> float:
    """Return the quantile of the standard normal distribution for a share."""
    return NormalDist().inv_cdf(share)


def bootstrap_interval(differences: Floats, confidence: float) -> tuple[float, float]:
    """Return a percentile bootstrap interval for a mean (Efron 1979), on at most 5,000 rows."""
    sample = differences
    if len(differences) > _MAX_DRAWN_ROWS:
        sample = np.random.default_rng(0).choice(differences, _MAX_DRAWN_ROWS, replace=False)
    means = _means(sample[:, None])[:, 0]
    tail = (1 - confidence) / 2
    low, high = np.quantile(means, (tail, 1 - tail))
    shift = float(differences.mean() - sample.mean())
    return float(low) + shift, float(high) + shift


@cache
def _weights() -> npt.NDArray[np.float32]:
    """Return how often each row is in each draw: Poisson weights approximate drawing with replacement.

    All callers share them, since drawing them is slow; one matrix product then computes all draws.
    """
    return np.random.default_rng(0).poisson(1.0, size=(_DRAWS, _MAX_DRAWN_ROWS)).astype(np.float32)
