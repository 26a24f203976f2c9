"""Tidemill keeps machine-learning models true while the world under them moves."""

from typing import TYPE_CHECKING, Any

from tidemill.core.metric import metric
from tidemill.core.pipeline import pipeline, step

if TYPE_CHECKING:
    from tidemill.core.check import Verdict
    from tidemill.core.feature import Aggregate, Entity, FeatureView
    from tidemill.core.model import Model

__version__ = "0.1.0"
__all__ = ["Aggregate", "Entity", "FeatureView", "Model", "Verdict", "__version__", "metric", "pipeline", "step"]

_LATE = {
    "Aggregate": "tidemill.core.feature",
    "Entity": "tidemill.core.feature",
    "FeatureView": "tidemill.core.feature",
    "Model": "tidemill.core.model",
    "Verdict": "tidemill.core.check",
}


def __getattr__(name: str) -> Any:
    """Import the other public names when they are first used."""
    if name not in _LATE:
        raise AttributeError(f"module 'tidemill' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATE[name]), name)
