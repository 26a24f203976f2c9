"""Predictions of a loaded model: values, and probabilities by class."""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec import Struct

from tidemill.core.model import Signature
from tidemill.data.arrays import Floats

_TOLERANCE = 1e-3  # of a sum of probabilities: models compute them as float32


class Predictions(Struct, frozen=True):
    """The predictions for n rows: `values` (n), and for a classification `probabilities` (n, classes)."""

    values: list[str | float]
    probabilities: Floats | None


class Predictor(Protocol):
    """A loaded model; `predict` may be called from many threads."""

    signature: Signature

    def predict(self, frame: pl.DataFrame) -> Predictions: ...


def to_predictions(signature: Signature, scores: Floats) -> Predictions:
    """Convert scores to predictions; scores are numbers, or probabilities of the positive class or of each class."""
    if signature.task == "regression":
        return Predictions(scores.astype(float).tolist(), None)
    table = np.column_stack((1 - scores, scores)) if scores.ndim == 1 else scores
    best = table.argmax(axis=1)
    return Predictions([signature.classes[index] for index in best], table)


def find_valid(signature: Signature, predictions: Predictions) -> npt.NDArray[np.bool_]:
    """Return for each row whether its prediction is finite, and its probabilities are in [0, 1] and have the sum 1.

    Raises
    ------
    ValueError
        if the probabilities have another shape than (rows, classes).
    """
    if signature.task == "regression":
        return np.isfinite(np.asarray(predictions.values, dtype=np.float64))
    table = predictions.probabilities
    if table is None:
        return np.ones(len(predictions.values), dtype=np.bool_)
    if table.shape != (len(predictions.values), len(signature.classes)):
        raise ValueError(table.shape)
    # A comparison with NaN is false. The sum of each row is checked last: a sum of infinities warns.
    inside = np.asarray((table >= -_TOLERANCE) & (table <= 1 + _TOLERANCE)).all(axis=1).reshape(-1)
    sums = np.where(inside, np.where(inside[:, None], table, 0.0).sum(axis=1), 0.0)
    return np.asarray(inside & (np.abs(sums - 1) <= _TOLERANCE), dtype=np.bool_)


def describe_invalid(predictions: Predictions, valid: npt.NDArray[np.bool_]) -> str:
    """Return in words what is wrong with the predictions that are not valid."""
    table, invalid = predictions.probabilities, ~valid
    values = np.asarray(predictions.values, dtype=np.float64) if table is None else table
    if np.isnan(values[invalid]).any():
        return "NaN"
    if not np.isfinite(values[invalid]).all():
        return "infinity"
    return "probabilities outside 0 … 1 or with a sum other than 1"
