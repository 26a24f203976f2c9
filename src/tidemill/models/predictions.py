"""Predictions of a loaded model: values, and probabilities by class."""

from typing import Protocol

import numpy as np
import polars as pl
from msgspec import Struct

from tidemill.core.model import Signature
from tidemill.data.arrays import Floats


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
