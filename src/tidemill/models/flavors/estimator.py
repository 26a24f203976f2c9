"""What the flavors around a scikit-learn-like estimator share: the gate before a pickle, and how it is asked."""

import io
from typing import Any

import numpy as np
import polars as pl

from tidemill.core.model import Manifest, Model, Signature
from tidemill.data.keys import as_classes
from tidemill.errors import DataError, InputError
from tidemill.models.packaged_code import PackagedModules
from tidemill.models.predictions import Predictions


def unpickle(model: Model, file: str) -> Any:
    """The estimator in a pickle or a joblib file of a package, by the code that the package carries.

    Raises
    ------
    InputError
        if nobody vouched for the package: loading a pickle runs whatever code is in it.
    DataError
        if it cannot be loaded here, or does not do what the signature says.
    """
    manifest = model.manifest
    if not manifest.trusted:
        raise InputError(
            f"model {manifest.name!r} is a pickle that nobody vouched for, and loading it would run its code",
            "register it with --trust if you made it, or save it as ONNX or LightGBM text",
        )
    import joblib

    try:
        with PackagedModules(model.files).within():
            estimator = joblib.load(io.BytesIO(model.files[file]))
    except ModuleNotFoundError as wrong:
        raise DataError(
            f"model {manifest.name!r} needs the module {wrong.name!r}", "install the package that has it"
        ) from wrong
    except Exception as wrong:
        raise DataError(
            f"model {manifest.name!r} cannot be unpickled here: {type(wrong).__name__}: {wrong}",
            "install the versions that its manifest names, or save it again",
        ) from wrong
    _fits(manifest, estimator)
    return estimator


def map_class_names(manifest: Manifest, estimator: Any) -> dict[Any, str]:
    """The class names of an estimator that was fitted on names: its own class → the signature's.

    Raises
    ------
    DataError
        if the two differ.
    """
    own = list(np.asarray(estimator.classes_).tolist())
    names = as_classes(pl.Series(own)).to_list()
    if set(names) != set(manifest.signature.classes):
        raise DataError(
            f"the estimator of {manifest.name!r} knows the classes {', '.join(names)}, but its signature says "
            f"{', '.join(manifest.signature.classes)}",
            f"register it with the classes {','.join(names)}",
        )
    return dict(zip(own, names, strict=True))


def predict_rows(signature: Signature, estimator: Any, rows: Any, names: dict[Any, str]) -> Predictions:
    """What an estimator says of rows; `names` gives its own classes, in its order, their names in the signature.

    Raises
    ------
    DataError
        if it does not take these rows.
    """
    if not len(rows):
        return Predictions([], None if signature.task == "regression" else np.empty((0, len(signature.classes))))
    try:
        values = np.asarray(estimator.predict(rows)).ravel()
        if signature.task == "regression":
            return Predictions(values.astype(float).tolist(), None)
        shares = np.asarray(estimator.predict_proba(rows), dtype=float)
    except (ValueError, TypeError, KeyError) as wrong:
        raise DataError(f"the model cannot answer for these rows: {wrong}", "send rows like its samples") from wrong
    table = np.zeros((len(values), len(signature.classes)))
    table[:, [signature.classes.index(name) for name in names.values()]] = shares
    return Predictions([names[value] for value in values.tolist()], table)


def _fits(manifest: Manifest, estimator: Any) -> None:
    task = manifest.signature.task
    kind = type(estimator).__name__
    if not hasattr(estimator, "predict"):
        raise DataError(f"model {manifest.name!r} holds a {kind}, which has no predict()", "save a fitted estimator")
    if task == "regression" and hasattr(estimator, "classes_"):
        raise DataError(f"model {manifest.name!r} is said to do regression, but its {kind} has classes", "correct task")
    if task == "classification" and not (hasattr(estimator, "predict_proba") and hasattr(estimator, "classes_")):
        raise DataError(
            f"the {kind} of model {manifest.name!r} gives no probabilities",
            "wrap it in sklearn.calibration.CalibratedClassifierCV, or set its own option (SVC: probability=True)",
        )
