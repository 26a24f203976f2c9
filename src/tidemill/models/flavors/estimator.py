"""Shared code of the flavors with a scikit-learn estimator: safe unpickling, and prediction."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tidemill.core.model import Manifest, Model, Signature
from tidemill.data.classes import match_classes
from tidemill.data.keys import to_class_names
from tidemill.errors import DataError, InputError
from tidemill.models.packaged_code import PackagedModules
from tidemill.models.predictions import Predictions


def unpickle(model: Model, file: str) -> Any:
    """Load the estimator in a pickle or joblib file of a package, as `load_pickle` does, and check its interface.

    Raises
    ------
    InputError
        if the package is not trusted.
    DataError
        if the estimator cannot be loaded, or does not fit the signature.
    """
    estimator = load_pickle(model, file)
    _check_signature(model.manifest, estimator)
    return estimator


def load_pickle(model: Model, file: str, modules: PackagedModules | None = None) -> Any:
    """Load the object in a pickle or joblib file of a package, with the code in the package (or with `modules`).

    Raises
    ------
    InputError
        if the package is not trusted: loading a pickle runs the code in it.
    DataError
        if it cannot be loaded.
    """
    manifest = model.manifest
    if not manifest.trusted:
        raise InputError(
            f"model {manifest.name!r} is a pickle that is not trusted, and loading it would run its code",
            "register it with --trust if you know its author, or save it as ONNX or LightGBM text",
        )
    import joblib

    try:
        with (modules or PackagedModules(model.files)).active():
            return joblib.load(io.BytesIO(model.files[file]))
    except ModuleNotFoundError as error:
        raise DataError(
            f"model {manifest.name!r} needs the module {error.name!r}, which is not installed",
            "install the package that contains it",
        ) from error
    except Exception as error:
        raise DataError(
            f"model {manifest.name!r} cannot be unpickled: {type(error).__name__}: {error}",
            "install the versions in its manifest, or save the model again",
        ) from error


def map_class_names(manifest: Manifest, estimator: Any) -> dict[Any, str]:
    """Map the classes of an estimator that was fitted on class names to the classes of the signature.

    Raises
    ------
    DataError
        if the classes differ, or the estimator predicts several labels for a row.
    """
    try:
        classes = np.asarray(estimator.classes_)
    except ValueError:  # arrays of several labels, with different lengths
        classes = np.empty((0, 0))
    if classes.ndim != 1:
        raise DataError(
            f"the estimator of {manifest.name!r} predicts several labels for a row",
            "save one estimator for each label: `estimator.estimators_`",
        )
    values = classes.tolist()
    names = to_class_names(pl.Series(values)).to_list()
    if set(names) != set(manifest.signature.classes):
        # CatBoost names the classes of booleans True and False.
        matched = match_classes(pl.Series(names), manifest.signature.classes).to_list()
        if set(matched) != set(manifest.signature.classes) or len(matched) != len(manifest.signature.classes):
            raise DataError(
                f"the estimator of {manifest.name!r} was fitted on the classes {', '.join(names)}, but its signature "
                f"has {', '.join(manifest.signature.classes)}",
                f"register it with the classes {','.join(names)}",
            )
        names = matched
    return dict(zip(values, names, strict=True))


def predict_rows(signature: Signature, estimator: Any, rows: Any, names: dict[Any, str]) -> Predictions:
    """Predict rows with an estimator; `names` maps its classes, in its order, to the classes of the signature.

    Raises
    ------
    DataError
        if the estimator rejects the rows, or does not predict one label or number for each row.
    """
    if not len(rows):
        return Predictions([], None if signature.task == "regression" else np.empty((0, len(signature.classes))))
    try:
        values = _to_column(estimator.predict(rows), len(rows))
        if signature.task == "regression":
            return Predictions(values.astype(float).tolist(), None)
        probabilities = np.asarray(estimator.predict_proba(rows), dtype=float)
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"the model cannot predict these rows: {error}", "send rows like its sample rows") from error
    if probabilities.shape != (len(values), len(names)):
        raise DataError(
            f"the model predicts probabilities of the shape {probabilities.shape} for {len(values)} rows and "
            f"{len(names)} classes",
            "its predict_proba must return one column for each class",
        )
    table = np.zeros((len(values), len(signature.classes)))
    table[:, [signature.classes.index(name) for name in names.values()]] = probabilities
    return Predictions(_to_names(values.tolist(), names), table)


def _to_column(values: Any, rows: int) -> npt.NDArray[Any]:
    """Return predictions of the shape (rows,), also from those of the shape (rows, 1)."""
    array = np.asarray(values)
    if array.shape not in ((rows,), (rows, 1)):
        each = array.shape[1] if array.ndim == 2 and array.shape[0] == rows else array.shape
        raise DataError(
            f"the model predicts {each} values for a row, and a release predicts one",
            "save one estimator for each output, for example `estimator.estimators_`",
        )
    return array.reshape(rows)


def _to_names(values: list[Any], names: dict[Any, str]) -> list[str | float]:
    """Return the class names of predicted values; CatBoost predicts booleans as text."""
    try:
        return [names[value] for value in values]
    except (KeyError, TypeError):
        by_text = {str(value): name for value, name in names.items()}
        unknown = [value for value in values if value not in names and str(value) not in by_text]
        if unknown:
            raise DataError(
                f"the model predicts {unknown[0]!r}, which is not among its classes {', '.join(map(repr, names))}",
                "save the estimator again: its classes_ must be the values that predict() returns",
            ) from None
        return [by_text[str(value)] for value in values]


def _check_signature(manifest: Manifest, estimator: Any) -> None:
    task = manifest.signature.task
    kind = type(estimator).__name__
    if not hasattr(estimator, "predict"):
        raise DataError(f"model {manifest.name!r} contains a {kind}, which has no predict()", "save a fitted estimator")
    if task == "regression" and hasattr(estimator, "classes_"):
        raise DataError(
            f"the task of model {manifest.name!r} is regression, but its {kind} has classes",
            "set task = classification",
        )
    if task == "classification" and not (hasattr(estimator, "predict_proba") and hasattr(estimator, "classes_")):
        raise DataError(
            f"the {kind} of model {manifest.name!r} has no probabilities",
            "wrap it in sklearn.calibration.CalibratedClassifierCV, or set its option (SVC: probability=True)",
        )
