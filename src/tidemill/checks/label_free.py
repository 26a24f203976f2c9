"""Estimates the quality of a classification on rows without labels, from its own calibrated probabilities.

Confidence-based performance estimation (Białek, Kuberski, Perrakis and Bifet 2024, "Estimating model performance under
covariate shift without labels"): of rows that are predicted with probability .8, four in five are expected to be right.
This is valid only as long as the same inputs have the same labels: under concept drift it is the quality of before.
So no verdict depends on it.
"""

from collections.abc import Callable

import numpy as np
from msgspec import Struct

from tidemill.data.arrays import Floats
from tidemill.data.metrics import Truth, normal_quantile

VALIDITY = "valid only without concept drift"
_LEAST_ROWS = 50
_LEAST_LABELS = 200
_MOST_LABELS = 2_000  # the newest ones: more change two or three parameters little
_TINY = 1e-15
_RIDGE = 1e-3  # the offsets of rare classes stay finite


class LabelFreeEstimate(Struct, frozen=True, kw_only=True):
    """The expected value of a metric on `rows` without a label, with its interval.

    `calibrated_on` is the number of labelled rows that calibrated the probabilities, 0 if they are too few.
    """

    metric: str
    estimate: float
    low: float
    high: float
    rows: int
    calibrated_on: int
    validity: str = VALIDITY

    def describe(self) -> str:
        """Return the estimate as text."""
        return (
            f"estimated without labels on the other {self.rows} rows: {self.metric} {self.estimate:.4f} "
            f"({self.low:.4f} to {self.high:.4f}), {self.validity}"
        )


def estimate_without_labels(
    metric: str, scores: Floats, truth: Truth, labelled: Floats, confidence: float
) -> LabelFreeEstimate | None:
    """Return the expected value of a metric for rows without labels; None for other metrics, or fewer than 50 rows.

    Parameters
    ----------
    scores : the probabilities of the rows without a label, shape (rows, classes).
    truth, labelled : the labels and the probabilities of the rows that calibrate these probabilities; the newest 2,000.
    """
    find_losses = _LOSSES.get(metric)
    if find_losses is None or truth.task != "classification" or len(scores) < _LEAST_ROWS:
        return None
    truth, labelled = Truth(truth.task, truth.values[-_MOST_LABELS:], truth.classes), labelled[-_MOST_LABELS:]
    is_calibrated = len(truth.values) >= _LEAST_LABELS
    expected = _calibrate(scores, truth, labelled) if is_calibrated else scores
    losses = find_losses(scores)
    means = (expected * losses).sum(axis=1)
    estimate = float(means.mean())
    # Of the whole mixture: rows differ, and the label of a row is random.
    variance = max(float((expected * losses**2).sum(axis=1).mean()) - estimate**2, 0.0)
    reach = normal_quantile((1 + confidence) / 2) * np.sqrt(variance / len(scores))
    return LabelFreeEstimate(
        metric=metric,
        estimate=estimate,
        low=max(estimate - float(reach), 0.0),
        high=estimate + float(reach),
        rows=len(scores),
        calibrated_on=len(truth.values) if is_calibrated else 0,
    )


def _calibrate(scores: Floats, truth: Truth, labelled: Floats) -> Floats:
    """Return probabilities with a slope and an offset for each class that fit the labels best (Guo et al. 2017)."""
    from scipy.optimize import minimize

    classes = scores.shape[1]
    logs = np.log(np.clip(labelled, _TINY, 1.0))
    hits = truth.values.astype(int)

    def find_loss(parameters: Floats) -> tuple[float, Floats]:
        shares = _to_shares(parameters, logs)
        error = shares.copy()
        error[np.arange(len(hits)), hits] -= 1.0
        gradient = np.concatenate([[(error * logs).sum(axis=1).mean()], error.mean(axis=0)])
        offsets = parameters[1:]
        loss = -np.log(np.clip(shares[np.arange(len(hits)), hits], _TINY, 1.0)).mean() + _RIDGE * (offsets**2).sum()
        gradient[1:] += 2 * _RIDGE * offsets
        return float(loss), gradient

    found = minimize(find_loss, np.array([1.0, *[0.0] * classes]), jac=True, method="L-BFGS-B")
    return _to_shares(found.x, np.log(np.clip(scores, _TINY, 1.0)))


def _to_shares(parameters: Floats, logs: Floats) -> Floats:
    raised = parameters[0] * logs + parameters[1:]
    raised = np.exp(raised - raised.max(axis=1, keepdims=True))
    shares: Floats = raised / raised.sum(axis=1, keepdims=True)
    return shares


def _find_log_losses(scores: Floats) -> Floats:
    losses: Floats = -np.log(np.clip(scores, _TINY, 1.0))
    return losses


def _find_errors(scores: Floats) -> Floats:
    """Return whether a prediction is wrong, for each class that may be true."""
    errors = np.ones_like(scores)
    errors[np.arange(len(scores)), scores.argmax(axis=1)] = 0.0
    return errors


# The loss of a row for each class that may be true, shape (rows, classes).
_LOSSES: dict[str, Callable[[Floats], Floats]] = {"log_loss": _find_log_losses, "error_rate": _find_errors}
