"""One module for each kind of model; others plug in under the entry-point group `tidemill.flavors`."""

from collections.abc import Callable
from typing import Any

# Each is imported when it is asked for, and named where it is: so that the cache of a step sees its code.


def _lightgbm() -> Any:
    from tidemill.models.flavors.lightgbm import LightGBM

    return LightGBM


def _sklearn() -> Any:
    from tidemill.models.flavors.sklearn import Sklearn

    return Sklearn


def _lightgbm_raw() -> Any:
    from tidemill.models.flavors.lightgbm_raw import LightGBMRaw

    return LightGBMRaw


def _joblib() -> Any:
    from tidemill.models.flavors.joblib import Joblib

    return Joblib


def _onnx() -> Any:
    from tidemill.models.flavors.onnx import ONNX

    return ONNX


def _mlflow() -> Any:
    from tidemill.models.flavors.mlflow import MLflow

    return MLflow


BUILT_IN: dict[str, Callable[[], Any]] = {
    "lightgbm": _lightgbm,
    "sklearn": _sklearn,
    "lightgbm-raw": _lightgbm_raw,
    "joblib": _joblib,
    "onnx": _onnx,
    "mlflow": _mlflow,
}
