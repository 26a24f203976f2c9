"""Loads the user's code: `pipeline.py` and `features.py` of a project."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from tidemill.core.feature import FeatureView
from tidemill.core.metric import Metric
from tidemill.core.pipeline import Pipeline
from tidemill.errors import ConfigurationError, NotFound


class Code:
    """The pipelines, the metrics and the feature views that a project defines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        sys.path.insert(0, str(folder)) if str(folder) not in sys.path else None
        module = _load(folder, "pipeline")
        self.pipelines: dict[str, Pipeline] = _found(module, Pipeline)
        self.metrics: dict[str, Metric] = _by_name(_found(module, Metric), "metrics", "pipeline.py")
        views = _found(_load(folder, "features"), FeatureView)
        self.views: dict[str, FeatureView] = _by_name(views, "feature views", "features.py")

    def pipeline(self, name: str) -> Pipeline:
        """The pipeline of that name; raises `NotFound`."""
        if name not in self.pipelines:
            known = ", ".join(sorted(self.pipelines)) or "none"
            raise NotFound(f"pipeline.py defines no pipeline {name!r}", f"it defines: {known}")
        return self.pipelines[name]

    def view(self, name: str) -> FeatureView:
        """The feature view of that name; raises `NotFound`."""
        if name not in self.views:
            known = ", ".join(sorted(self.views)) or "none"
            raise NotFound(f"features.py defines no view {name!r}", f"it defines: {known}")
        return self.views[name]


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
    except SyntaxError as wrong:
        place = Path(wrong.filename or file).name
        raise ConfigurationError(f"{place}, line {wrong.lineno}: {wrong.msg}", "mend that line") from wrong
    except Exception as raised:
        raise ConfigurationError(
            f"{file.name} cannot be imported: {type(raised).__name__}: {raised}", "run it with python to see where"
        ) from raised
    return module


def _found(module: ModuleType | None, noun: type[Any]) -> dict[str, Any]:
    return {name: value for name, value in vars(module or ModuleType("none")).items() if isinstance(value, noun)}


def _by_name(found: dict[str, Any], nouns: str, file: str) -> dict[str, Any]:
    """By the names that they have themselves; raises `ConfigurationError` where two have the same."""
    named: dict[str, Any] = {}
    for one in found.values():
        if named.setdefault(one.name, one) is not one:
            raise ConfigurationError(f"{file} defines two {nouns} named {one.name!r}", "give each a name of its own")
    return named
