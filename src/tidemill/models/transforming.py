"""Runs the transformations of a model on frames: the code in its package, or the same code before it is packaged."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import polars as pl
from msgspec import to_builtins
from msgspec.structs import replace

from tidemill.core.feature import FeatureSet, RowTransformation
from tidemill.core.model import Input, Model
from tidemill.data.rows import RowReader
from tidemill.data.types import column_type
from tidemill.errors import ConfigurationError, DataError
from tidemill.models import row_transformations
from tidemill.models.packaged_code import PackagedModules
from tidemill.models.predictions import Predictions, Predictor

_RUNNER = "code/tidemill_transformations.py"
_SOURCE = Path(row_transformations.__file__).read_text(encoding="utf-8")
_SAMPLES = 24
_WHOLE = 5_000
_TOLERANCE = 1e-9


class Transformer:
    """The transformations of a model, loaded from their source; threads can share it."""

    def __init__(self, transformations: tuple[RowTransformation, ...], files: Mapping[str, bytes]) -> None:
        self._definitions = [to_builtins(transformation) for transformation in transformations]
        try:
            with PackagedModules(files).active():
                self._functions = row_transformations.load_functions(self._definitions)
        except Exception as error:
            raise ConfigurationError(
                f"the transformations cannot be loaded from their source: {type(error).__name__}: {error}",
                "correct features.py: the functions can use imports, and names that its top level defines",
            ) from error

    def compute(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Return typed rows with the computed columns; raise `DataError` if a transformation fails."""
        try:
            return row_transformations.compute_columns(self._definitions, self._functions, rows)
        except row_transformations.TransformationError as error:
            raise DataError(
                str(error), f"correct {error.name} in features.py, or the values of the columns that it reads"
            ) from error.__cause__


class TransformingPredictor:
    """A predictor of raw rows: it computes the columns of the transformations, then predicts with the model."""

    def __init__(self, predictor: Predictor, transformer: Transformer) -> None:
        self.signature = predictor.signature
        self._predictor = predictor
        self._transformer = transformer
        self._reader = RowReader(self.signature.inputs)

    def predict(self, frame: pl.DataFrame) -> Predictions:
        """Predict raw rows."""
        rows = self._reader.read_frame(frame)
        return self._predictor.predict(self._transformer.compute(rows) if rows.height else frame)


def load_transformer(model: Model) -> Transformer | None:
    """Return the transformations of a package; None if it has none."""
    features = model.manifest.features
    if features is None or not features.transformations:
        return None
    return Transformer(features.transformations, model.files)


def add_computed(model: Model, rows: pl.DataFrame) -> pl.DataFrame:
    """Return raw rows with the columns that only the transformations of a package compute."""
    transformer = load_transformer(model)
    if transformer is None or rows.is_empty():
        return rows
    computed = transformer.compute(RowReader(model.manifest.signature.inputs).read_frame(rows))
    present = set(rows.columns)
    return rows.with_columns(computed.select(name for name in computed.columns if name not in present).get_columns())


def compute_inputs(model: Model, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the columns that the estimator of a package gets from raw rows, as its predictor computes them."""
    transformer = load_transformer(model)
    if transformer is None or rows.is_empty():
        return rows
    return transformer.compute(RowReader(model.manifest.signature.inputs).read_frame(rows))


def pack_features(features: FeatureSet) -> tuple[FeatureSet, dict[str, bytes]]:
    """Return the features for a manifest, and the files with the code of their transformations."""
    if not features.transformations:
        return features, {}
    files = {path: source.encode() for path, source in features.code.items()}
    return replace(features, code={}), files | {_RUNNER: _SOURCE.encode()}


def declare_raw_inputs(rows: pl.DataFrame, features: FeatureSet) -> tuple[Input, ...]:
    """Return the columns before any transformation, with their types in training rows.

    Raises
    ------
    ConfigurationError
        if a transformation reads a column that the rows do not have, or whose type a request cannot have.
    """
    readers = {
        name: transformation.name for transformation in features.transformations for name in transformation.inputs
    }
    schema = rows.schema
    for name in features.raw_names:
        reader = f"transformation {readers[name]!r} reads the column" if name in readers else "the input"
        if name not in schema:
            raise ConfigurationError(
                f"{reader} {name!r}, which no source, view or earlier transformation has",
                f"correct its name; or list the transformations of this model under [inputs]; "
                f"the columns are: {', '.join(name for name in rows.columns if not name.startswith('_'))}",
            )
        if column_type(schema[name]) == "nested":
            raise ConfigurationError(
                f"{reader} {name!r} of the type {schema[name]}, which a request cannot have",
                "use another column, or give the source a column for each part of it",
            )
    return tuple(Input(name=name, type=column_type(schema[name])) for name in features.raw_names)


def transform(rows: pl.DataFrame, features: FeatureSet) -> pl.DataFrame:
    """Return rows with the computed columns, which replace columns of the same name; all other columns stay."""
    if not features.transformations:
        return rows
    raw = RowReader(declare_raw_inputs(rows, features)).read_frame(rows)
    computed = _load(features.transformations, tuple(sorted(features.code.items()))).compute(raw)
    return rows.with_columns(computed.select(_list_outputs(features)).get_columns())


def check_row_wise(rows: pl.DataFrame, features: FeatureSet) -> None:
    """Check on sample rows that transformations compute the same for a row alone as among other rows.

    Raises
    ------
    ConfigurationError
        if a value differs.
    """
    if not features.transformations or rows.is_empty():
        return
    whole = rows.head(_WHOLE)
    outputs = _list_outputs(features)
    expected = transform(whole, features).select(outputs)
    step = max(1, whole.height // _SAMPLES)
    indices = list(range(0, whole.height, step))[:_SAMPLES]
    order = list(reversed(indices))
    shuffled = transform(whole[order], features).select(outputs).reverse()
    again = transform(whole, features).select(outputs)[indices]
    _compare(expected[indices], again, features, "in one computation", "in the next")
    _compare(expected[indices], shuffled, features, "among all rows", "among other rows, in another order")
    alone = [transform(whole[index], features).select(outputs) for index in indices]
    for index, single in zip(indices, alone, strict=True):
        _compare(expected[index], single, features, "among all rows", "alone")


def _list_outputs(features: FeatureSet) -> list[str]:
    return list(dict.fromkeys(name for each in features.transformations for name in each.outputs))


def _compare(expected: pl.DataFrame, actual: pl.DataFrame, features: FeatureSet, first: str, second: str) -> None:
    for name in expected.columns:
        for before, after in zip(expected[name].to_list(), actual[name].to_list(), strict=True):
            if not _is_same(before, after):
                transformation = next(each for each in reversed(features.transformations) if name in each.outputs)
                raise ConfigurationError(
                    f"transformation {transformation.name!r} is not row-wise: {name!r} of a row is {before!r} {first} "
                    f"and {after!r} {second}; a request would get other values than the training",
                    "compute each value from the columns of its own row; a mean, a rank or an earlier row belongs in a "
                    "feature view, a statistic of the training rows in a step of the estimator (a scikit-learn "
                    "pipeline), and a constant can be written into features.py",
                )


def _is_same(before: object, after: object) -> bool:
    if before == after:
        return True
    if isinstance(before, int | float) and isinstance(after, int | float):
        both_nan = before != before and after != after
        return both_nan or abs(before - after) <= _TOLERANCE * max(abs(before), abs(after))
    return {repr(before), repr(after)} <= {"None", "nan"}


@lru_cache(8)
def _load(transformations: tuple[RowTransformation, ...], code: tuple[tuple[str, str], ...]) -> Transformer:
    return Transformer(transformations, {path: source.encode() for path, source in code})
