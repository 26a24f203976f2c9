"""Loads the user's code: `pipeline.py` and `features.py` of a project, and tells which state of it that is."""

import hashlib
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from tidemill.core.feature import FeatureView
from tidemill.core.pipeline import Pipeline
from tidemill.errors import ConfigurationError, NotFound


class Code:
    """The pipelines and the feature views that a project defines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        sys.path.insert(0, str(folder)) if str(folder) not in sys.path else None
        self.pipelines: dict[str, Pipeline] = _found(_load(folder, "pipeline"), Pipeline)
        views = _found(_load(folder, "features"), FeatureView)
        self.views: dict[str, FeatureView] = {view.name: view for view in views.values()}

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
        raise ConfigurationError(f"{file.name}, line {wrong.lineno}: {wrong.msg}", "mend that line") from wrong
    except Exception as raised:
        raise ConfigurationError(
            f"{file.name} cannot be imported: {type(raised).__name__}: {raised}", "run it with python to see where"
        ) from raised
    return module


def _found(module: ModuleType | None, noun: type[Any]) -> dict[str, Any]:
    return {name: value for name, value in vars(module or ModuleType("none")).items() if isinstance(value, noun)}


def state_of(folder: Path) -> dict[str, Any]:
    """The state of the project's code: git commit and whether it was changed since, and a digest of its files."""
    content = hashlib.sha256()
    for file in sorted((*folder.glob("*.py"), *folder.glob("*.toml"))):
        content.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    commit = _git(folder, "rev-parse", "HEAD")
    state: dict[str, Any] = {"digest": content.hexdigest()}
    if commit:
        state |= {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--", "."))}
    return state


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(
            ("git", "-C", str(folder), *words), capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
