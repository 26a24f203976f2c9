"""river: an online learner that a Tidemill run fitted, saved with joblib, and its encoding; it can learn more rows.

A learner can only be saved as a pickle. As for every pickle, a package is loaded only if a run created it, or a person
trusts it.
"""

import io
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec
import polars as pl

from tidemill.core.model import Manifest, Model
from tidemill.data import learner_rows
from tidemill.data.encoding import Encoding, encode
from tidemill.data.learner_rows import LearnerRow, score_learner, to_learner_rows
from tidemill.data.rows import RowReader
from tidemill.errors import DataError
from tidemill.models.environment import list_versions
from tidemill.models.flavors.estimator import load_pickle
from tidemill.models.packaged_code import PackagedModules
from tidemill.models.predictions import Predictions, to_predictions

_FILE = "model.joblib"
_ENCODING = "encoding.json"
_CODE = "code/tidemill_learner.py"
# Read at import, so that a change changes the code digest of the steps that pack models.
_SOURCE = Path(learner_rows.__file__).read_text(encoding="utf-8")


class River:
    """An online learner with its encoding; a learner may store values while it predicts, so threads take turns."""

    def __init__(self, model: Model) -> None:
        self.signature = model.manifest.signature
        self._rows = LearnerRows(model)
        self._learner = OpenLearner(model).learner
        self._lock = Lock()

    def predict(self, frame: pl.DataFrame) -> Predictions:
        """Predict rows; a class that the learner has never learned has probability 0.

        Raises
        ------
        DataError
            if the learner rejects the rows.
        """
        rows = self._rows.read(frame)
        try:
            with self._lock:
                scores = score_learner(self._learner, rows, len(self.signature.classes))
        except (ValueError, TypeError, KeyError) as error:
            raise DataError(
                f"the learner cannot predict these rows: {type(error).__name__}: {error}", "send rows like its samples"
            ) from error
        return to_predictions(self.signature, scores)


class LearnerRows:
    """Reads frames as the rows of the learner in a package: a dictionary for each."""

    def __init__(self, model: Model) -> None:
        self._encoding = msgspec.json.decode(model.files[_ENCODING], type=Encoding)
        texts = [column.name for column in self._encoding.columns if column.kind == "category"]
        self._texts = RowReader(column for column in self._encoding.inputs if column.name in texts)

    def read(self, frame: pl.DataFrame) -> list[LearnerRow]:
        """Return the rows of a frame; raise `DataError` for a value that is not of its column's type."""
        if frame.is_empty():
            return []
        texts = (
            {values.name: values.to_list() for values in self._texts.read_frame(frame)} if self._texts.inputs else {}
        )
        return to_learner_rows(encode(self._encoding, frame), self._encoding.names, texts)


class OpenLearner:
    """The learner in a package, to learn more rows: a new object, so that no other one changes.

    Raises
    ------
    InputError
        if the package is not trusted: loading a pickle runs the code in it.
    DataError
        if it cannot be loaded, or is no online learner.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._modules = PackagedModules(model.files)
        self.learner = load_pickle(model, _FILE, self._modules)
        if not hasattr(self.learner, "learn_one"):
            kind = type(self.learner).__name__
            raise DataError(f"model {model.manifest.name!r} contains a {kind}", "save an online learner")

    def save(self) -> Model:
        """Return the package with the current state of the learner."""
        with self._modules.active():
            return msgspec.structs.replace(self._model, files=self._model.files | {_FILE: _save(self.learner)})


def pack(manifest: Manifest, learner: Any, encoding: Encoding) -> Model:
    """Return the package of a learner and of its encoding; it is trusted, since a Tidemill run created it.

    The learner must have learned the targets of `learner_rows.to_targets`.
    """
    library = type(learner).__module__.split(".")[0]
    environment = list_versions("river", "numpy", "joblib", library) | manifest.environment
    files = {
        _FILE: _save(learner),
        _ENCODING: msgspec.json.format(msgspec.json.encode(encoding)),
        _CODE: _SOURCE.encode(),
    }
    return Model(manifest=msgspec.structs.replace(manifest, trusted=True, environment=environment), files=files)


def _save(learner: Any) -> bytes:
    import joblib

    sink = io.BytesIO()
    joblib.dump(learner, sink)
    return sink.getvalue()
