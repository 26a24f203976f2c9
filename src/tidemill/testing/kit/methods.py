"""Tests of model methods: encoders keep each level of a column, and treat an unseen level as declared."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import polars as pl

from tidemill.core.model import Model
from tidemill.data.arrays import Floats
from tidemill.data.encoding import Encoding, encode
from tidemill.data.keys import count_values
from tidemill.errors import TidemillError
from tidemill.models.flavors.estimator import load_pickle
from tidemill.models.load import load
from tidemill.testing.kit.failing import fail
from tidemill.testing.kit.sample import Sample
from tidemill.testing.kit.training import SampleTraining

__tracebackhide__ = True
_LEAST_ROWS = 50
_LEAST_SHARE = 0.01
_UNSEEN = "a level that no row has"


def to_one_hot(encoding: Encoding, column: str, values: pl.Series) -> Floats:
    """Return the one-hot form of a column's values, shape (rows, levels): one 1 for a known level, else zeros.

    >>> from tidemill import fit_encoding
    >>> frame = pl.DataFrame({"carrier": ["UA", "AA"]})
    >>> to_one_hot(fit_encoding(frame, ("carrier",)), "carrier", pl.Series(["AA", "UA", "XX"])).tolist()
    [[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    """
    part = next(each for each in encoding.columns if each.name == column)
    indices = encode(Encoding(columns=(part,)), values.alias(column).to_frame())[:, 0]
    return np.asarray(indices[:, None] == np.arange(len(part.vocabulary))[None, :], float)


def require_encoders(training: SampleTraining, *, merged: dict[str, tuple[str, ...]] | None = None) -> None:
    """Require that each encoder gives each frequent level its own one-hot form, and an unseen level none.

    A level is frequent if it has at least 50 rows and 1 % of the sample. `merged` are the levels that an encoder drops
    on purpose, by column.
    """
    sample = training.sample
    for call in training.calls:
        values = call.returned if isinstance(call.returned, tuple) else (call.returned,)
        for value in values:
            if isinstance(value, Encoding):
                _require_encoding(value, sample, f"the encoder of step {call.node!r}", merged or {})
    _require_transformations(sample, merged or {})
    for name, categories, encoder in _list_estimator_encoders(training.model):
        frequent = _list_frequent(sample.complete[name]) if name in sample.complete.columns else []
        _require_levels(
            frequent, set(map(str, categories)), f"the {type(encoder).__name__} of the model", name, merged or {}
        )


def require_unseen_level(training: SampleTraining) -> None:
    """Require that the model predicts a row with a level that no row of the sample has, and one without a value."""
    sample, model = training.sample, training.model
    predictor = load(model)
    for column in model.manifest.signature.inputs:
        if column.type != "text" or column.name not in sample.joined.columns:
            continue
        for value in (_UNSEEN, None):
            row = sample.joined.head(1).with_columns(pl.lit(value, pl.String).alias(column.name))
            shown = "an unseen level" if value else "null"
            try:
                predictions = predictor.predict(row)
            except TidemillError as error:
                fail(
                    f"the model fails for {shown} in {column.name!r}: {error.problem}",
                    'declare how the encoder treats it, such as OneHotEncoder(handle_unknown="ignore")',
                )
            scores = predictions.probabilities if predictions.probabilities is not None else predictions.values
            if not np.isfinite(np.asarray(scores, float)).all():
                fail(f"the model predicts NaN for {shown} in {column.name!r}", "handle it in the encoder")


def _require_encoding(encoding: Encoding, sample: Sample, about: str, merged: dict[str, tuple[str, ...]]) -> None:
    rows = sample.complete
    for column in encoding.columns:
        if column.kind != "category" or column.name not in rows.columns:
            continue
        frequent = _list_frequent(rows[column.name])
        _require_levels(frequent, set(column.vocabulary), about, column.name, merged)
        levels = pl.Series(column.vocabulary, dtype=pl.String)
        if len(levels) and not np.array_equal(to_one_hot(encoding, column.name, levels), np.eye(len(levels))):
            fail(f"{about} gives two levels of {column.name!r} the same form", "give each level an index of its own")
        if to_one_hot(encoding, column.name, pl.Series([_UNSEEN])).any():
            fail(f"{about} gives an unseen level of {column.name!r} the form of a known one", "encode it as -1")


def _require_levels(
    frequent: list[str], known: set[str], about: str, column: str, merged: dict[str, tuple[str, ...]]
) -> None:
    for level in frequent:
        if level not in known and level not in merged.get(column, ()):
            fail(
                f"{about} drops the level {level!r} of {column!r}: its rows look like rows of an unseen level",
                f"fit it on all training rows, or state it: require_encoders(…, merged={{{column!r}: ({level!r},)}})",
            )


def _require_transformations(sample: Sample, merged: dict[str, tuple[str, ...]]) -> None:
    """Require that a transformation with one-hot outputs gives each frequent level of its text an output."""
    rows = sample.complete
    for transformation in sample.features.transformations:
        texts = [name for name in transformation.inputs if name in rows.columns and rows.schema[name] == pl.String]
        if len(texts) != 1 or len(transformation.inputs) != 1 or len(transformation.outputs) < 2:
            continue
        outputs = rows.select(pl.col(name).cast(pl.Float64, strict=False) for name in transformation.outputs)
        matrix = outputs.to_numpy()
        if not np.isin(matrix, (0.0, 1.0)).all() or matrix.sum(axis=1).max(initial=0.0) > 1:
            continue
        set_rows = pl.Series(matrix.sum(axis=1) > 0)
        known = set(rows[texts[0]].filter(set_rows).drop_nulls().unique())
        about = f"the one-hot encoder {transformation.name!r}"
        _require_levels(_list_frequent(rows[texts[0]]), known, about, texts[0], merged)


def _list_frequent(values: pl.Series) -> list[str]:
    least = max(_LEAST_ROWS, int(_LEAST_SHARE * len(values)))
    counts = count_values(values.cast(pl.String).drop_nulls())
    return counts.filter(pl.col("count") >= least)["value"].to_list()


def _list_estimator_encoders(model: Model) -> Iterator[tuple[str, list[Any], Any]]:
    """Yield the encoders in a scikit-learn estimator of a package: a column by name, its categories, the encoder."""
    if model.manifest.flavor != "sklearn":
        return
    pending: list[tuple[Any, tuple[str, ...]]] = [(load_pickle(model, "model.joblib"), ())]
    while pending:
        estimator, columns = pending.pop()
        if hasattr(estimator, "categories_"):
            names = tuple(getattr(estimator, "feature_names_in_", columns))
            for name, categories in zip(names, estimator.categories_, strict=False):
                yield str(name), list(categories), estimator
        elif hasattr(estimator, "transformers_"):
            pending += [
                (part, tuple(chosen) if isinstance(chosen, list | tuple) else ())
                for _, part, chosen in estimator.transformers_
                if not isinstance(part, str)
            ]
        elif hasattr(estimator, "steps"):
            pending += [(part, columns) for _, part in estimator.steps if not isinstance(part, str)]
