"""joblib: an estimator that somebody pickled elsewhere; loaded only if they vouched for it."""

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
    """A fitted estimator, asked with named columns if it was fitted on such, else with an array.

    The columns come as a pandas frame where pandas is installed, as a Polars frame where it is not.
    """

    def __init__(self, model: Model) -> None:
        self.signature = model.manifest.signature
        self._reader = RowReader(self.signature.inputs)
        self._estimator = unpickle(model, FILE)
        self._columns = self._order(model.manifest.name)
        self._named = hasattr(self._estimator, "feature_names_in_")
        self._has_pandas = find_spec("pandas") is not None
        if self._named and self._has_pandas and find_spec("pyarrow") is None:
            raise MissingExtra("pyarrow", "pandas")
        booster = getattr(self._estimator, "booster_", None)
        self._categories = bool(getattr(booster, "pandas_categorical", None))
        classification = self.signature.task == "classification"
        self._names = map_class_names(model.manifest, self._estimator) if classification else {}

    def predict(self, frame: pl.DataFrame) -> Predictions:
        """The estimator's own predictions, and its probabilities in the order of the signature's classes."""
        table = self._reader.read_frame(frame).select(self._columns)
        return predict_rows(self.signature, self._estimator, self._rows(table), self._names)

    def _order(self, name: str) -> list[str]:
        """The input columns in the estimator's order, which is the signature's where it knows no names."""
        given = [column.name for column in self.signature.inputs]
        own = [str(column) for column in getattr(self._estimator, "feature_names_in_", given)]
        width = getattr(self._estimator, "n_features_in_", len(own))
        if set(own) != set(given) or width != len(given):
            missing, needless = sorted(set(own) - set(given)), sorted(set(given) - set(own))
            parts = [f"missing {', '.join(missing)}"] if missing else []
            parts += [f"not among its features {', '.join(needless)}"] if needless else []
            raise DataError(
                f"the estimator of {name!r} was fitted on {width} columns, and the sample rows have {len(given)}"
                + (f": {'; '.join(parts)}" if parts else ""),
                "register it again with sample rows like those it was fitted on",
            )
        return own

    def _rows(self, table: pl.DataFrame) -> Any:
        if not self._named:
            return _array(table)
        return self._pandas(table) if self._has_pandas else table

    def _pandas(self, table: pl.DataFrame) -> Any:
        frame = table.to_pandas()
        for column in table.columns:
            if table[column].dtype == pl.String:
                # read_csv gives NaN for missing text, on which imputers and encoders were fitted.
                text = frame[column].astype(object).where(frame[column].notna(), np.nan)
                frame[column] = text.astype("category") if self._categories else text
        return frame


def _array(table: pl.DataFrame) -> Any:
    if all(kind.is_numeric() or kind == pl.Boolean for kind in table.dtypes):
        return table.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return table.to_numpy().astype(object)
