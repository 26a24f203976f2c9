"""LightGBM: the booster as text and the encoding as JSON, without a pickle."""

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl

from tidemill.core.model import Manifest, Model
from tidemill.data.encoding import Encoding, encode
from tidemill.errors import DataError
from tidemill.models.environment import list_versions
from tidemill.models.predictions import Predictions, to_predictions

if TYPE_CHECKING:
    import lightgbm


class LightGBM:
    """A booster with its encoding; it reproduces the training encoding exactly, and threads can share it."""

    def __init__(self, model: Model) -> None:
        import lightgbm

        self.signature = model.manifest.signature
        self._encoding = msgspec.json.decode(model.files["encoding.json"], type=Encoding)
        self._booster = lightgbm.Booster(model_str=model.files["model.txt"].decode())
        if self._booster.num_feature() != len(self._encoding.names):
            raise DataError(
                f"package {model.manifest.name!r} has {self._booster.num_feature()} features in its booster and "
                f"{len(self._encoding.names)} in its encoding",
                "create the package again",
            )

    def predict(self, frame: pl.DataFrame) -> Predictions:
        """Predict rows; the probabilities have the shape (n, classes)."""
        matrix = encode(self._encoding, frame)
        scores = np.asarray(self._booster.predict(matrix, num_threads=1 if frame.height < 1000 else 0))
        return to_predictions(self.signature, scores)


def pack(manifest: Manifest, booster: "lightgbm.Booster", encoding: Encoding) -> Model:
    """Return the package of a booster and of the encoding that it was trained with."""
    files = {
        "model.txt": booster.model_to_string().encode(),
        "encoding.json": msgspec.json.format(msgspec.json.encode(encoding)),
    }
    environment = list_versions("lightgbm", "numpy") | manifest.environment
    return Model(manifest=msgspec.structs.replace(manifest, environment=environment), files=files)
