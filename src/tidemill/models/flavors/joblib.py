"""joblib: an estimator that was pickled outside Tidemill; it is loaded only if it is trusted."""

from importlib.util import find_spec
from typing import Any

import numpy as np
import polars as pl

from tidemill.core.model import Model
from tidemill.data.rows import RowReader
from tidemill.errors import DataError, MissingExtra
from tidemill.models.flavors.estimator import map_class_names, predict_rows, unpickle
from tidemill.models.predictions import Predictions

FILE = "model.joblib"


class Joblib:
    """A fitted estimator; it predicts a frame if it was fitted on named columns, otherwise an array.

    The frame is a pandas frame if pandas is installed, otherwise a Polars frame.
    """

    def __init__(self, model: Model) -> None:
        self.signature = model.manifest.signature
        self._reader = RowReader(self.signature.inputs)
        self._estimator = unpickle(model, FILE)
        self._columns = self._order_columns(model.manifest.name)
        self._named = hasattr(self._estimator, "feature_names_in_")
        self._has_pandas = find_spec("pandas") is not None
        if self._named and self._has_pandas and find_spec("pyarrow") is None:
            raise MissingExtra("pyarrow", "pandas")
        booster = getattr(self._estimator, "booster_", None)
        self._categories = bool(getattr(booster, "pandas_categorical", None))
        classification = self.signature.task == "classification"
        self._names = map_class_names(model.manifest, self._estimator) if classification else {}

    def predict(self, frame: pl.DataFrame) -> Predictions:
        """Return the estimator's predictions, and its probabilities in the order of the signature's classes."""
        table = self._reader.read_frame(frame).select(self._columns)
        return predict_rows(self.signature, self._estimator, self._to_rows(table), self._names)

    def _order_columns(self, name: str) -> list[str]:
        """Return the input columns in the estimator's order; an estimator without names has the signature's order."""
        inputs = [column.name for column in self.signature.inputs]
        features = [str(column) for column in getattr(self._estimator, "feature_names_in_", inputs)]
        width = getattr(self._estimator, "n_features_in_", len(features))
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

    def _to_rows(self, table: pl.DataFrame) -> Any:
        if not self._named:
            return _to_array(table)
        return self._to_pandas(table) if self._has_pandas else table

    def _to_pandas(self, table: pl.DataFrame) -> Any:
        frame = table.to_pandas()
        for column in table.columns:
            if table[column].dtype == pl.String:
                # read_csv represents missing text as NaN, and imputers and encoders were fitted on that.
                text = frame[column].astype(object).where(frame[column].notna(), np.nan)
                frame[column] = text.astype("category") if self._categories else text
        return frame


def _to_array(table: pl.DataFrame) -> Any:
    if all(dtype.is_numeric() or dtype == pl.Boolean for dtype in table.dtypes):
        return table.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return table.to_numpy().astype(object)
