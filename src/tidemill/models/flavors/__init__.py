"""One module for each kind of model; others plug in under the entry-point group `tidemill.flavors`."""

from collections.abc import Callable
from importlib import import_module
from typing import Any


def _late(module: str, name: str) -> Callable[[], Any]:
    return lambda: getattr(import_module(f"tidemill.models.flavors.{module}"), name)


OWN: dict[str, Callable[[], Any]] = {
    "lightgbm": _late("lightgbm", "LightGBM"),
    "sklearn": _late("sklearn", "Sklearn"),
    "lightgbm-raw": _late("lightgbm_raw", "LightGBMRaw"),
    "joblib": _late("joblib", "Joblib"),
    "onnx": _late("onnx", "ONNX"),
    "mlflow": _late("mlflow", "MLflow"),
}
