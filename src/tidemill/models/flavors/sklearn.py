"""scikit-learn: an estimator that a Tidemill run fitted, saved with joblib, and its encoding."""

import io
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from tidemill.core.model import Manifest, Model
from tidemill.data import estimator_rows
from tidemill.data.encoding import Encoding, encode
from tidemill.data.estimator_rows import RowForm, to_estimator_rows
from tidemill.data.rows import RowReader
from tidemill.errors import DataError
from tidemill.models.environment import list_versions
from tidemill.models.flavors.estimator import predict_rows, unpickle
from tidemill.models.predictions import Predictions

_FILE = "model.joblib"
_FORM = "estimator.json"
_BUILDER = "code/tidemill_rows.py"
# Read at import, so that a change changes the code digest of the steps that pack models.
_SOURCE = Path(estimator_rows.__file__).read_text(encoding="utf-8")


class Sklearn:
    """An estimator with its encoding; its classes are indices into the signature's classes."""

    def __init__(self, model: Model) -> None:
        self.signature = model.manifest.signature
        self._encoding = msgspec.json.decode(model.files["encoding.json"], type=Encoding)
        self._estimator = unpickle(model, _FILE)
        self._form = (
            msgspec.json.decode(model.files[_FORM], type=_RowsOfEstimator).rows if _FORM in model.files else "numbers"
        )
        self._reader = RowReader(self._encoding.inputs)
        indices = list(getattr(self._estimator, "classes_", ())) if self.signature.task == "classification" else []
        try:
            self._names = {int(index): self.signature.classes[int(index)] for index in indices}
        except (ValueError, IndexError):
            raise DataError(
                f"the estimator of {model.manifest.name!r} was fitted on classes that its signature does not have",
                "fit it on indices of the signature's classes: 0, 1, …",
            ) from None

    def predict(self, frame: pl.DataFrame) -> Predictions:
        """Predict rows; a class that the training rows did not contain has probability 0."""
        uses_numbers = self._form in ("numbers", "polars-numbers")
        matrix = encode(self._encoding, frame) if uses_numbers else None
        table = pl.DataFrame() if uses_numbers else self._reader.read_frame(frame)
        rows = to_estimator_rows(self._form, table, matrix, self._encoding.names)
        return predict_rows(self.signature, self._estimator, rows, self._names)


class _RowsOfEstimator(msgspec.Struct, frozen=True):
    """The file with the form of the rows that an estimator gets."""

    rows: RowForm


def pack(manifest: Manifest, estimator: Any, encoding: Encoding, form: RowForm = "numbers") -> Model:
    """Return the package of a fitted estimator and of its encoding; it is trusted, since a Tidemill run created it.

    `form` is the form of the rows that the estimator was fitted on.

    A classifier must be fitted on indices of the signature's classes (0, 1, …), as LightGBM is.
    """
    import joblib

    sink = io.BytesIO()
    joblib.dump(estimator, sink)
    library = type(estimator).__module__.split(".")[0]
    frames = () if form == "numbers" else ("pandas",) if form == "pandas" else ("polars",)
    environment = list_versions("scikit-learn", "numpy", "joblib", library, *frames) | manifest.environment
    files = {_FILE: sink.getvalue(), "encoding.json": msgspec.json.format(msgspec.json.encode(encoding))}
    if form != "numbers":
        files |= {_FORM: msgspec.json.encode(_RowsOfEstimator(form)), _BUILDER: _SOURCE.encode()}
    return Model(manifest=msgspec.structs.replace(manifest, trusted=True, environment=environment), files=files)
