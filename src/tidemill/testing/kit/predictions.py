"""Tests of predictions: finite for unusual inputs, and equal for the same rows in another order."""

import numpy as np
import polars as pl

from tidemill.data.arrays import Floats
from tidemill.errors import TidemillError
from tidemill.recipes.scoring import score
from tidemill.testing.kit.failing import fail
from tidemill.testing.kit.rows import draw_rows, list_edges
from tidemill.testing.kit.training import SampleTraining

__tracebackhide__ = True
_TOLERANCE = 1e-9
_ROWS = 200


def require_finite_predictions(training: SampleTraining) -> None:
    """Require finite predictions, and probabilities with the sum 1, for zero, tiny, huge, missing and random inputs."""
    sample, model = training.sample, training.model
    names = tuple(column.name for column in model.manifest.signature.inputs if column.name in sample.joined.columns)
    edges, about = list_edges(sample.joined.select(names), names)
    for rows, what in ((edges, [str(edge) for edge in about]), (draw_rows(sample.joined, names, _ROWS), [])):
        try:
            scores = score(model, rows)
        except TidemillError as error:
            fail(f"the model fails for unusual inputs: {error.problem}", error.cure)
        wrong = ~np.isfinite(scores) if scores.ndim == 1 else ~np.isfinite(scores).all(axis=1)
        if wrong.any():
            index = int(wrong.argmax())
            shown = what[index] if what else f"the row {rows.row(index, named=True)}"
            fail(
                f"the model predicts {scores[index]} for {shown}", "handle such a value in a transformation or encoder"
            )
        if scores.ndim == 2 and not np.allclose(scores.sum(axis=1), 1.0, atol=1e-6):
            fail("the probabilities of the model do not add up to 1", "correct predict_proba of the estimator")


def require_order_invariance(training: SampleTraining) -> None:
    """Require that a prediction depends on its row only: not on other rows, nor on columns that are no inputs."""
    rows = training.sample.joined.tail(_ROWS)
    expected = score(training.model, rows)
    _require_equal(expected, score(training.model, rows.reverse())[::-1], "the order of the rows")
    _require_equal(expected, score(training.model, rows.with_columns(pl.lit(1.0).alias("unused"))), "an unused column")
    _require_equal(expected[:1], score(training.model, rows.head(1)), "the other rows of a request")


def _require_equal(expected: Floats, actual: Floats, what: str) -> None:
    if not np.allclose(expected, actual, atol=_TOLERANCE, rtol=_TOLERANCE):
        fail(f"predictions depend on {what}", "compute each prediction from the inputs of its own row")
