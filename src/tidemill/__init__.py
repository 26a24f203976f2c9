"""Tidemill trains, deploys, monitors and retrains machine-learning models on tables of data.

The names in `__all__` are the stable Python interface. They are imported when they are first used, so that
`import tidemill` is fast and loads no machine-learning library.
"""

from typing import TYPE_CHECKING, Any

from tidemill.core.metric import metric
from tidemill.core.pipeline import pipeline, step

if TYPE_CHECKING:
    from tidemill.compose.session import predict
    from tidemill.core.check import Verdict
    from tidemill.core.feature import Aggregate, Entity, FeatureSet, FeatureView
    from tidemill.core.model import Model
    from tidemill.core.policy import ModelPolicy
    from tidemill.core.run import Run
    from tidemill.core.transformation import transformation
    from tidemill.data.encoding import Encoding, fit_encoding
    from tidemill.flow.session import Session
    from tidemill.notebook import open_session, run

__version__ = "0.1.0"
__all__ = [
    "Aggregate",
    "Encoding",
    "Entity",
    "FeatureSet",
    "FeatureView",
    "Model",
    "ModelPolicy",
    "Run",
    "Session",
    "Verdict",
    "__version__",
    "fit_encoding",
    "metric",
    "open_session",
    "pipeline",
    "predict",
    "run",
    "step",
    "transformation",
]

_LATE = {
    "Aggregate": "tidemill.core.feature",
    "Encoding": "tidemill.data.encoding",
    "Entity": "tidemill.core.feature",
    "FeatureSet": "tidemill.core.feature",
    "FeatureView": "tidemill.core.feature",
    "Model": "tidemill.core.model",
    "ModelPolicy": "tidemill.core.policy",
    "Run": "tidemill.core.run",
    "Session": "tidemill.flow.session",
    "Verdict": "tidemill.core.check",
    "fit_encoding": "tidemill.data.encoding",
    "open_session": "tidemill.notebook",
    "predict": "tidemill.compose.session",
    "run": "tidemill.notebook",
    "transformation": "tidemill.core.transformation",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _LATE:
        raise AttributeError(f"module 'tidemill' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LATE[name]), name)


def __dir__() -> list[str]:
    """The public names, also those that are not imported yet."""
    return __all__
