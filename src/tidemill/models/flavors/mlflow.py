"""MLflow: a model directory as MLflow saves it; what it holds is asked by our own flavors, and MLflow is not needed."""

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
    """The model inside the directory, behind the flavor that asks it."""

    def __init__(self, model: Model) -> None:
        self.signature = model.manifest.signature
        content = read_model_file(model.files)
        module_name, class_name = _INNER[detect_format(content, "the model in the MLflow directory")]
        module = import_module(f"tidemill.models.flavors.{module_name}")
        inner = Model(manifest=model.manifest, files={module.FILE: content})
        self._inner: Predictor = getattr(module, class_name)(inner)

    def predict(self, frame: pl.DataFrame) -> Predictions:
        """What the model inside says."""
        return self._inner.predict(frame)


def read_model_file(files: dict[str, bytes]) -> bytes:
    """The content of the model file in a packed MLflow directory.

    Raises
    ------
    DataError
        if the directory is not whole, or holds a kind of model that is not supported.
    """
    flavors = _described(files).get("flavors", {})
    name = next((name for name in _NATIVE if isinstance(flavors.get(name), dict)), None)
    if name is None:
        loader = flavors.get("python_function", {}).get("loader_module", "no loader")
        raise DataError(
            f"the MLflow model has the flavors {', '.join(flavors) or 'none'} ({loader}), of which none is supported",
            f"supported are {', '.join(_NATIVE)}; save it with one of these, or as ONNX",
        )
    place = flavors[name].get(_NATIVE[name][0], "")
    if ROOT + place not in files:
        raise DataError(f"the MLflow directory has no file {place!r}, which its MLmodel names", "copy it again, whole")
    return files[ROOT + place]


def read_input_names(files: dict[str, bytes]) -> tuple[str, ...]:
    """The names of the inputs in the directory's signature; none where it has no signature, or one without names.

    Raises
    ------
    DataError
        if there is a signature that cannot be read.
    """
    signature = _described(files).get("signature")
    text = signature.get("inputs") if isinstance(signature, dict) else None
    if not text:
        return ()
    try:
        inputs = msgspec.json.decode(text, type=list[dict[str, Any]])
    except msgspec.DecodeError:
        raise DataError("the signature in the MLmodel file cannot be read", "copy it again, or leave it out") from None
    return tuple(column["name"] for column in inputs) if all("name" in column for column in inputs) else ()


def read_versions(files: dict[str, bytes]) -> dict[str, str]:
    """The versions that the directory says its model was made with."""
    flavors = _described(files).get("flavors", {})
    found = {"python": flavors.get("python_function", {}).get("python_version")}
    for name, (_, keys) in _NATIVE.items():
        found |= {package: flavors.get(name, {}).get(key) for key, package in keys.items()}
    return {package: version for package, version in found.items() if version}


def _described(files: dict[str, bytes]) -> dict[str, Any]:
    try:
        return read_mapping(files[ROOT + _DESCRIPTION].decode())
    except (KeyError, UnicodeDecodeError):
        raise DataError("the MLflow directory has no MLmodel file that can be read", "copy it again, whole") from None


def read_mapping(text: str) -> dict[str, Any]:
    """The mappings and scalars of a YAML file in the block style that MLflow writes; lists are passed over.

    >>> read_mapping("flavors:\\n  sklearn:\\n    pickled_model: model.pkl\\n")
    {'flavors': {'sklearn': {'pickled_model': 'model.pkl'}}}
    """
    root: dict[str, Any] = {}
    open_at: list[tuple[int, dict[str, Any]]] = [(-1, root)]
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith(("#", "---"))]
    place = 0
    while place < len(lines):
        depth, line = _depth(lines[place]), lines[place].strip()
        place += 1
        deeper = []
        while place < len(lines) and _depth(lines[place]) > depth:
            deeper.append(lines[place].strip())
            place += 1
        key, colon, value = line.partition(":")
        if line.startswith("- ") or not colon:
            continue
        while open_at[-1][0] >= depth:
            open_at.pop()
        if value.strip() or not deeper:
            open_at[-1][1][_scalar(key)] = _scalar(" ".join([value.strip(), *deeper]))
            continue
        place -= len(deeper)
        inner: dict[str, Any] = {}
        open_at[-1][1][_scalar(key)] = inner
        open_at.append((depth, inner))
    return root


def _depth(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def _scalar(text: str) -> str:
    text = text.strip()
    if len(text) > 1 and text[0] == text[-1] == "'":
        return text[1:-1].replace("''", "'")
    if len(text) > 1 and text[0] == text[-1] == '"':
        return text[1:-1]
    return "" if text in ("null", "~") else text
