"""joblib: an estimator that was pickled outside Tidemill; it is loaded only if it is trusted."""

from collections.abc import Callable
from typing import Any

import polars as pl

from tidemill.core.model import Model
from tidemill.data.estimator_rows import has_pandas, to_array, to_pandas
from tidemill.data.rows import RowReader
from tidemill.errors import DataError, MissingExtra
from tidemill.models.flavors.categories import (
    check_sample_categories,
    find_categories,
    list_catboost_categories,
    list_names,
    to_catboost_rows,
)
from tidemill.models.flavors.estimator import map_class_names, predict_rows, unpickle
from tidemill.models.inputs import load_samples
from tidemill.models.predictions import Predictions

FILE = "model.joblib"

_ToRows = Callable[[pl.DataFrame], Any]


class Joblib:
    """A fitted estimator; it predicts rows in the form that it was fitted on.

    These forms are tried with the sample rows of the package: for an estimator that knows names of columns a frame of
    pandas (if it is installed), then of Polars; for others an array, then frames.
    """

    def __init__(self, model: Model) -> None:
        self.signature = model.manifest.signature
        self._reader = RowReader(self.signature.inputs)
        self._estimator = unpickle(model, FILE)
        self._columns = self._order_columns(model.manifest.name)
        classification = self.signature.task == "classification"
        self._names = map_class_names(model.manifest, self._estimator) if classification else {}
        samples = load_samples(model)
        self._to_rows = self._choose_form(samples.select(self._columns) if samples.height else samples)

    def predict(self, frame: pl.DataFrame) -> Predictions:
        """Return the estimator's predictions, and its probabilities in the order of the signature's classes."""
        table = self._reader.read_frame(frame).select(self._columns)
        return predict_rows(self.signature, self._estimator, self._to_rows(table), self._names)

    def _order_columns(self, name: str) -> list[str]:
        """Return the input columns in the estimator's order; an estimator without names has the signature's order."""
        inputs = [column.name for column in self.signature.inputs]
        features = list_names(self._estimator) or inputs
        width = getattr(self._estimator, "n_features_in_", 0) or len(features)  # CatBoost forgets it
        if set(features) != set(inputs) or width != len(inputs):
            missing, extra = sorted(set(features) - set(inputs)), sorted(set(inputs) - set(features))
            parts = [f"missing {', '.join(missing)}"] if missing else []
            parts += [f"not among its features {', '.join(extra)}"] if extra else []
            raise DataError(
                f"the estimator of {name!r} was fitted on {width} columns, and the sample rows have {len(inputs)}"
                + (f": {'; '.join(parts)}" if parts else ""),
                "register it again with sample rows that have the columns of its training data",
            )
        return features

    def _choose_form(self, samples: pl.DataFrame) -> _ToRows:
        """Return the function that converts typed columns to rows of the estimator."""
        categories = find_categories(self._estimator, self._columns)
        if categories:
            if not has_pandas():
                raise MissingExtra("pandas", "pandas")
            check_sample_categories(samples, categories)
            return lambda table: to_pandas(table, categories)
        catboost = list_catboost_categories(self._estimator, self._columns)
        if catboost:
            return lambda table: to_catboost_rows(table, catboost)
        frames: list[_ToRows] = [to_pandas, _keep] if has_pandas() else [_keep]
        forms = [*frames, to_array] if list_names(self._estimator) else [to_array, *frames]
        if samples.is_empty():
            return forms[0]
        problems = []
        for form in forms:
            try:
                predict_rows(self.signature, self._estimator, form(samples), self._names)
            except Exception as error:  # noqa: BLE001 - an estimator may raise anything for rows of another form
                problems.append(error)
            else:
                return form
        if isinstance(problems[0], DataError) and not has_pandas():
            raise DataError(
                problems[0].problem,
                "if it was fitted on a pandas frame: pip install 'tidemill[pandas]'; otherwise use sample rows like "
                "those of its training",
            ) from problems[0]
        raise problems[0]


def _keep(table: pl.DataFrame) -> pl.DataFrame:
    return table
