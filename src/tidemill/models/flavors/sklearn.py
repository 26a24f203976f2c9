"""scikit-learn: an estimator that a run here fitted, by joblib, and the encoding that it was fitted with."""

import io
from typing import Any

import msgspec
import polars as pl

from tidemill.core.model import Manifest, Model
from tidemill.data.encoding import Encoding, encode
from tidemill.errors import DataError
from tidemill.models.environment import installed_versions
from tidemill.models.flavors.estimator import predict_rows, unpickle
from tidemill.models.predictions import Predictions

_FILE = "model.joblib"


class Sklearn:
    """An estimator that answers for rows in their own columns; its classes are places in the signature's."""

    def __init__(self, model: Model) -> None:
        self.signature = model.manifest.signature
        self._encoding = msgspec.json.decode(model.files["encoding.json"], type=Encoding)
        self._estimator = unpickle(model, _FILE)
        own = list(getattr(self._estimator, "classes_", ())) if self.signature.task == "classification" else []
        try:
            self._names = {int(place): self.signature.classes[int(place)] for place in own}
        except (ValueError, IndexError):
            raise DataError(
                f"the estimator of {model.manifest.name!r} knows classes that its signature does not have",
                "fit it on places in the signature's classes: 0, 1, …",
            ) from None

    def predict(self, frame: pl.DataFrame) -> Predictions:
        """Answers for rows; a class that was absent when it was fitted has probability 0."""
        return predict_rows(self.signature, self._estimator, encode(self._encoding, frame), self._names)


def pack(manifest: Manifest, estimator: Any, encoding: Encoding) -> Model:
    """The package of a fitted estimator and of its encoding; a run here made it, so it is trusted.

    A classifier is fitted on places in the signature's classes (0, 1, …), as LightGBM is.
    """
    import joblib

    sink = io.BytesIO()
    joblib.dump(estimator, sink)
    maker = type(estimator).__module__.split(".")[0]
    environment = installed_versions("scikit-learn", "numpy", "joblib", maker) | manifest.environment
    files = {_FILE: sink.getvalue(), "encoding.json": msgspec.json.format(msgspec.json.encode(encoding))}
    return Model(manifest=msgspec.structs.replace(manifest, trusted=True, environment=environment), files=files)
