"""LightGBM: the booster as text and the encoding as JSON, without a pickle."""

from typing import TYPE_CHECKING

import msgspec
import numpy as np
import polars as pl

from tidemill.core.model import Manifest, Model
from tidemill.data.encoding import Encoding, encode
from tidemill.errors import DataError
from tidemill.host.boosting import import_lightgbm
from tidemill.models.environment import list_versions
from tidemill.models.predictions import Predictions, to_predictions

if TYPE_CHECKING:
    import lightgbm

_BY_ROWS_OR_COLUMNS = "[force_col_wise: 0]\n[force_row_wise: 1]\n", "[force_col_wise: 1]\n[force_row_wise: 0]\n"


class LightGBM:
    """A booster with its encoding; it reproduces the training encoding exactly, and threads can share it."""

    def __init__(self, model: Model) -> None:
        library = import_lightgbm()
        self.signature = model.manifest.signature
        self._encoding = msgspec.json.decode(model.files["encoding.json"], type=Encoding)
        self._booster = library.Booster(model_str=model.files["model.txt"].decode())
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


def measure_use(model: Model) -> dict[str, float]:
    """Return the share of a booster's splits that use each input; empty for a package of another flavor.

    It is read from the text of the booster, so that LightGBM need not be installed.
    """
    text, encoding = model.files.get("model.txt", b"").decode(), model.files.get("encoding.json")
    if model.manifest.flavor != "lightgbm" or encoding is None or "\nfeature_importances:\n" not in text:
        return {}
    head, tail = text.split("\nfeature_importances:\n", 1)
    names = (
        next((line for line in head.splitlines() if line.startswith("feature_names=")), "").partition("=")[2].split()
    )
    entries = [line.rpartition("=") for line in tail.split("\n\n", 1)[0].splitlines()]
    splits = {name: float(count) for name, _, count in entries if name}
    columns = [
        column.name
        for column in msgspec.json.decode(encoding, type=Encoding).columns
        for _ in (column.parts if column.kind == "time" and column.parts else (column.name,))
    ]
    total = sum(splits.values())
    if not total or len(columns) != len(names):
        return {}
    use = dict.fromkeys(columns, 0.0)
    for column, name in zip(columns, names, strict=True):
        use[column] += splits.get(name, 0.0) / total
    return use


def pack(manifest: Manifest, booster: "lightgbm.Booster", encoding: Encoding) -> Model:
    """Return the package of a booster and of the encoding that it was trained with."""
    # How histograms were built depends on the threads and changes no tree: packages of equal models are equal.
    text = booster.model_to_string().replace(*_BY_ROWS_OR_COLUMNS)
    files = {
        "model.txt": text.encode(),
        "encoding.json": msgspec.json.format(msgspec.json.encode(encoding)),
    }
    environment = list_versions("lightgbm", "numpy") | manifest.environment
    return Model(manifest=msgspec.structs.replace(manifest, environment=environment), files=files)
