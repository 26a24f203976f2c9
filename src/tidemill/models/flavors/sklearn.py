"""scikit-learn: an estimator that a Tidemill run fitted, saved with joblib, and its encoding."""

import io
from typing import Any

import msgspec
import polars as pl

from tidemill.core.model import Manifest, Model
from tidemill.data.encoding import Encoding, encode
from tidemill.errors import DataError
from tidemill.models.environment import list_versions
from tidemill.models.flavors.estimator import predict_rows, unpickle
from tidemill.models.predictions import Predictions

_FILE = "model.joblib"


class Sklearn:
    """An estimator with its encoding; its classes are indices into the signature's classes."""

    def __init__(self, model: Model) -> None:
        self.signature = model.manifest.signature
        self._encoding = msgspec.json.decode(model.files["encoding.json"], type=Encoding)
        self._estimator = unpickle(model, _FILE)
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
        return predict_rows(self.signature, self._estimator, encode(self._encoding, frame), self._names)


def pack(manifest: Manifest, estimator: Any, encoding: Encoding) -> Model:
    """Return the package of a fitted estimator and of its encoding; it is trusted, since a Tidemill run created it.

    A classifier must be fitted on indices of the signature's classes (0, 1, …), as LightGBM is.
    """
    import joblib

    sink = io.BytesIO()
    joblib.dump(estimator, sink)
    library = type(estimator).__module__.split(".")[0]
    environment = list_versions("scikit-learn", "numpy", "joblib", library) | manifest.environment
    files = {_FILE: sink.getvalue(), "encoding.json": msgspec.json.format(msgspec.json.encode(encoding))}
    return Model(manifest=msgspec.structs.replace(manifest, trusted=True, environment=environment), files=files)
