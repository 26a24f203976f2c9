"""Loads a package so that it answers: rows in, values and probabilities out."""

from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
from msgspec import Struct

from tidemill import plugin
from tidemill.core.model import Model, Signature


class Answers(Struct, frozen=True):
    """What a model says of n rows: `values` (n), and for a classification `probabilities` (n, classes)."""

    values: list[str | float]
    probabilities: npt.NDArray[np.float64] | None


class Predictor(Protocol):
    """A loaded model; `predict` may be called from many threads."""

    signature: Signature

    def predict(self, frame: pl.DataFrame) -> Answers: ...


def load(model: Model) -> Predictor:
    """The predictor of a package, by its flavor; raises `NotFound` for a flavor that is not installed."""
    from tidemill.models.flavors import OWN

    flavor = model.manifest.flavor
    make = OWN[flavor]() if flavor in OWN else plugin.load("flavors", flavor)
    predictor: Predictor = make(model)
    return predictor


def answers(signature: Signature, scores: npt.NDArray[np.float64]) -> Answers:
    """What raw scores say: probabilities of the positive class or of each class, or numbers."""
    if signature.task == "regression":
        return Answers(scores.astype(float).tolist(), None)
    table = np.column_stack((1 - scores, scores)) if scores.ndim == 1 else scores
    best = table.argmax(axis=1)
    return Answers([signature.classes[place] for place in best], table)
