"""MLflow: a model directory as MLflow saves it, whose model predicts through our own flavors, without MLflow."""

from importlib import import_module
from typing import Any

import msgspec
import polars as pl

from tidemill.core.model import Model
from tidemill.errors import DataError
from tidemill.models.formats import Format, detect_format
from tidemill.models.predictions import Predictions, Predictor

ROOT = "mlflow/"
_DESCRIPTION = "MLmodel"
# MLflow's flavor → the keys under which it names its file and the versions that made it.
_NATIVE = {
    "lightgbm": ("data", {"lgb_version": "lightgbm"}),
    "sklearn": ("pickled_model", {"sklearn_version": "scikit-learn"}),
    "onnx": ("data", {}),
}
_INNER: dict[Format, tuple[str, str]] = {
    "lightgbm-raw": ("lightgbm_raw", "LightGBMRaw"),
    "joblib": ("joblib", "Joblib"),
    "onnx": ("onnx", "ONNX"),
}


class MLflow:
    """The model inside the directory, loaded by the flavor of its format."""

    def __init__(self, model: Model) -> None:
        self.signature = model.manifest.signature
        content = read_model_file(model.files)
        module_name, class_name = _INNER[detect_format(content, "the model in the MLflow directory")]
        module = import_module(f"tidemill.models.flavors.{module_name}")
        inner = Model(manifest=model.manifest, files={module.FILE: content})
        self._inner: Predictor = getattr(module, class_name)(inner)

    def predict(self, frame: pl.DataFrame) -> Predictions:
        """The predictions of the model inside."""
        return self._inner.predict(frame)


def read_model_file(files: dict[str, bytes]) -> bytes:
    """The content of the model file in a packed MLflow directory.

    Raises
    ------
    DataError
        if the directory is not whole, or holds a kind of model that is not supported.
    """
    flavors = _flavors(files)
    name = next((name for name in _NATIVE if flavors.get(name)), None)
    if name is None:
        loader = flavors.get("python_function", {}).get("loader_module", "no loader")
        raise DataError(
            f"the MLflow model has the flavors {', '.join(flavors) or 'none'} ({loader}), of which none is supported",
            f"supported are {', '.join(_NATIVE)}; save it with one of these, or as ONNX",
        )
    path = str(flavors[name].get(_NATIVE[name][0], ""))
    if ROOT + path not in files:
        raise DataError(f"the MLflow directory has no file {path!r}, which its MLmodel names", "copy it again, whole")
    return files[ROOT + path]


def read_input_names(files: dict[str, bytes]) -> tuple[str, ...]:
    """The names of the inputs in the directory's signature; none where it has no signature, or one without names.

    Raises
    ------
    DataError
        if there is a signature that cannot be read.
    """
    text = _mapping(_described(files).get("signature")).get("inputs")
    if not text:
        return ()
    try:
        inputs = msgspec.json.decode(text, type=list[dict[str, Any]])
    except (msgspec.DecodeError, TypeError):
        raise DataError("the signature in the MLmodel file cannot be read", "copy it again, or leave it out") from None
    return tuple(column["name"] for column in inputs) if all("name" in column for column in inputs) else ()


def read_versions(files: dict[str, bytes]) -> dict[str, str]:
    """The versions that the directory says its model was made with."""
    flavors = _flavors(files)
    found = {"python": flavors.get("python_function", {}).get("python_version")}
    for name, (_, keys) in _NATIVE.items():
        found |= {package: flavors.get(name, {}).get(key) for key, package in keys.items()}
    return {package: str(version) for package, version in found.items() if version}


def _described(files: dict[str, bytes]) -> dict[str, Any]:
    """The content of the MLmodel file."""
    import yaml

    try:
        described = yaml.safe_load(files[ROOT + _DESCRIPTION])
    except (KeyError, UnicodeDecodeError, yaml.YAMLError):
        raise DataError("the MLflow directory has no MLmodel file that can be read", "copy it again, whole") from None
    return _mapping(described)


def _flavors(files: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    """What the MLmodel file states of each flavor; a flavor may state nothing."""
    return {str(name): _mapping(stated) for name, stated in _mapping(_described(files).get("flavors")).items()}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
