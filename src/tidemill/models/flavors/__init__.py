"""Model flavors: one module for each kind of model; other packages add more by the entry points `tidemill.flavors`."""

from collections.abc import Callable
from typing import Any

# Each import is in a function of its own: it happens on first use, and the cache key of a step includes the code of the
# flavors that it uses.


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


def _river() -> Any:
    from tidemill.models.flavors.river import River

    return River


BUILT_IN: dict[str, Callable[[], Any]] = {
    "lightgbm": _lightgbm,
    "sklearn": _sklearn,
    "lightgbm-raw": _lightgbm_raw,
    "joblib": _joblib,
    "onnx": _onnx,
    "mlflow": _mlflow,
    "river": _river,
}
