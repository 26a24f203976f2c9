"""Loads the code of a project: `pipeline.py` and `features.py`."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from tidemill.core.feature import FeatureView
from tidemill.core.metric import Metric
from tidemill.core.pipeline import Pipeline
from tidemill.core.transformation import Transformation
from tidemill.errors import ConfigurationError, NotFound


class Code:
    """The pipelines, metrics, feature views and transformations of a project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        sys.path.insert(0, str(folder)) if str(folder) not in sys.path else None
        module = _load(folder, "pipeline")
        self.pipelines: dict[str, Pipeline] = _collect(module, Pipeline)
        self.metrics: dict[str, Metric] = _index_by_name(_collect(module, Metric), "metrics", "pipeline.py")
        features = _load(folder, "features")
        views = _collect(features, FeatureView)
        self.views: dict[str, FeatureView] = _index_by_name(views, "feature views", "features.py")
        transformations = _collect(features, Transformation)
        self.transformations: dict[str, Transformation] = _index_by_name(
            transformations, "transformations", "features.py"
        )

    def pipeline(self, name: str) -> Pipeline:
        """Return a pipeline by its name; raise `NotFound` if there is none."""
        if name not in self.pipelines:
            known = ", ".join(sorted(self.pipelines)) or "none"
            raise NotFound(f"pipeline.py defines no pipeline {name!r}", f"it defines: {known}")
        return self.pipelines[name]

    def view(self, name: str) -> FeatureView:
        """Return a feature view by its name; raise `NotFound` if there is none."""
        if name not in self.views:
            known = ", ".join(sorted(self.views)) or "none"
            raise NotFound(f"features.py defines no view {name!r}", f"it defines: {known}")
        return self.views[name]

    def transformation(self, name: str) -> Transformation:
        """Return a transformation by its name; raise `NotFound` if there is none."""
        if name not in self.transformations:
            known = ", ".join(self.transformations) or "none"
            raise NotFound(f"features.py defines no transformation {name!r}", f"it defines: {known}")
        return self.transformations[name]


def _load(folder: Path, name: str) -> ModuleType | None:
    file = folder / f"{name}.py"
    if not file.exists():
        return None
    spec = importlib.util.spec_from_file_location(f"{folder.name}_{name}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module
    try:
        spec.loader.exec_module(module)
    except SyntaxError as error:
        name = Path(error.filename or file).name
        raise ConfigurationError(f"{name}, line {error.lineno}: {error.msg}", "fix this line") from error
    except Exception as error:
        raise ConfigurationError(
            f"{file.name} cannot be imported: {type(error).__name__}: {error}", "run it with python to see the line"
        ) from error
    return module


def _collect(module: ModuleType | None, kind: type[Any]) -> dict[str, Any]:
    return {name: value for name, value in vars(module or ModuleType("none")).items() if isinstance(value, kind)}


def _index_by_name(definitions: dict[str, Any], kind: str, file: str) -> dict[str, Any]:
    """Return definitions by their own names; raise `ConfigurationError` if two have the same name."""
    indexed: dict[str, Any] = {}
    for definition in definitions.values():
        if indexed.setdefault(definition.name, definition) is not definition:
            raise ConfigurationError(f"{file} defines two {kind} named {definition.name!r}", "rename one of them")
    return indexed
