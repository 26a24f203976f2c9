"""MLflow: a model directory as MLflow saves it, whose model predicts through our own flavors, without MLflow."""

from importlib import import_module
from typing import Any

import msgspec
import polars as pl

from tidemill.core.model import Model
from tidemill.errors import DataError
from tidemill.models.formats import Format, detect_format
from tidemill.models.inputs import SAMPLES
from tidemill.models.predictions import Predictions, Predictor

ROOT = "mlflow/"
_DESCRIPTION = "MLmodel"
# MLflow's flavor → the keys of the model file and of the versions that created it.
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
        samples = {name: content for name, content in model.files.items() if name == SAMPLES}
        inner = Model(manifest=model.manifest, files={module.FILE: content} | samples)
        self._inner: Predictor = getattr(module, class_name)(inner)

    def predict(self, frame: pl.DataFrame) -> Predictions:
        """Predict rows with the model in the directory."""
        return self._inner.predict(frame)


def read_model_file(files: dict[str, bytes]) -> bytes:
    """Return the content of the model file in a packed MLflow directory.

    Raises
    ------
    DataError
        if the directory is incomplete, or contains a kind of model that is not supported.
    """
    flavors = _read_flavors(files)
    name = next((name for name in _NATIVE if flavors.get(name)), None)
    if name is None:
        loader = flavors.get("python_function", {}).get("loader_module", "no loader")
        raise DataError(
            f"the MLflow model has the flavors {', '.join(flavors) or 'none'} ({loader}), none supported",
            f"save it with one of {', '.join(_NATIVE)}, or as ONNX",
        )
    path = str(flavors[name].get(_NATIVE[name][0], ""))
    if ROOT + path not in files:
        raise DataError(f"the MLflow directory has no file {path!r}, which its MLmodel names", "copy all of it again")
    return files[ROOT + path]


def read_input_names(files: dict[str, bytes]) -> tuple[str, ...]:
    """Return the input names in the directory's signature; empty without a signature, or with one without names.

    Raises
    ------
    DataError
        if the signature cannot be read.
    """
    text = _to_mapping(_read_description(files).get("signature")).get("inputs")
    if not text:
        return ()
    try:
        inputs = msgspec.json.decode(text, type=list[dict[str, Any]])
    except (msgspec.DecodeError, TypeError):
        raise DataError(
            "the signature in the MLmodel file cannot be read", "copy the file again, or remove the signature"
        ) from None
    return tuple(column["name"] for column in inputs) if all("name" in column for column in inputs) else ()


def read_versions(files: dict[str, bytes]) -> dict[str, str]:
    """Return the versions of the packages that created the model, as the directory lists them."""
    flavors = _read_flavors(files)
    versions = {"python": flavors.get("python_function", {}).get("python_version")}
    for name, (_, keys) in _NATIVE.items():
        versions |= {package: flavors.get(name, {}).get(key) for key, package in keys.items()}
    return {package: str(version) for package, version in versions.items() if version}


def _read_description(files: dict[str, bytes]) -> dict[str, Any]:
    """Return the content of the MLmodel file."""
    import yaml

    try:
        content = yaml.safe_load(files[ROOT + _DESCRIPTION])
    except (KeyError, UnicodeDecodeError, yaml.YAMLError):
        raise DataError("the MLflow directory has no MLmodel file that can be read", "copy all of it again") from None
    return _to_mapping(content)


def _read_flavors(files: dict[str, bytes]) -> dict[str, dict[str, Any]]:
    """Return the section of each flavor in the MLmodel file; a section may be empty."""
    return {
        str(name): _to_mapping(section)
        for name, section in _to_mapping(_read_description(files).get("flavors")).items()
    }


def _to_mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
