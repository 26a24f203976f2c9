"""The rows of an online learner, one dictionary for each, and its answers; it needs only NumPy.

A package of an online learner contains this file as `code/tidemill_learner.py`, so that an exported model predicts the
same.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
LearnerRow = dict[str, float | str]


def to_learner_rows(
    matrix: Floats, names: Sequence[str], texts: Mapping[str, Sequence[str | None]]
) -> list[LearnerRow]:
    """Return a dictionary for each row: texts as they are, other columns as numbers; it lacks what is missing.

    `matrix` has the encoded columns, which are called `names`, with NaN where a value is missing. The columns in
    `texts` replace their codes: an online learner also gets a text that no training row had.
    """
    columns = [texts[name] if name in texts else matrix[:, index].tolist() for index, name in enumerate(names)]
    return [
        {
            name: value
            for name, value in zip(names, values, strict=True)
            # NaN is the only value that differs from itself.
            if value is not None and value == value
        }
        for values in zip(*columns, strict=True)
    ]


def to_targets(values: Sequence[Any], classes: int) -> list[Any]:
    """Return the targets of a learner: False and True for two classes, the index of one of several, or a number."""
    if classes == 2:
        return [bool(value) for value in values]
    return [int(value) if classes else float(value) for value in values]


def score_learner(learner: Any, rows: Sequence[LearnerRow], classes: int) -> Floats:
    """Return numbers, shape (rows,), or probabilities, shape (rows, classes).

    A class that the learner has never learned has probability 0; before it has learned any, all are equal.
    """
    if not classes:
        return np.array([learner.predict_one(row) for row in rows], dtype=float).reshape(len(rows))
    targets = to_targets(range(classes), classes)
    shares = [learner.predict_proba_one(row) for row in rows]
    table = np.array([[share.get(target, 0.0) for target in targets] for share in shares], dtype=float)
    table = table.reshape(len(rows), classes)
    total = table.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, table / total, np.where(np.isnan(total), np.nan, 1 / classes))
