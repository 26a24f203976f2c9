"""Tests of secrets: a planted value must not be printed by a step or a prediction, nor stored in the workspace."""

import ast
import os
import re
from collections.abc import Iterator
from pathlib import Path

import polars as pl

from tidemill.flow.capture import captured
from tidemill.host.git import list_code_files
from tidemill.recipes.scoring import score
from tidemill.testing.kit.failing import fail
from tidemill.testing.kit.training import SampleTraining

__tracebackhide__ = True
_SECRET = re.compile(
    r"pass(word|wd|phrase)?|secret|token|credential|(api|access|private|signing)_?key|dsn", re.IGNORECASE
)
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_GENERAL = "TIDEMILL_KIT_SECRET"


def plant_secrets(folder: Path) -> dict[str, str]:
    """Return values for the environment variables that seem to be secrets in the code of a project, and for one more.

    The values are so short that a run does not hide them in logs, as it does with longer ones: a planted value that is
    printed can be seen. A variable that is set keeps its own value, and is not planted.
    """
    names = sorted({name for name in _list_variables(folder) if _SECRET.search(name)} | {_GENERAL})
    return {name: f"zQ{index:02}x7J" for index, name in enumerate(names) if name not in os.environ}


def require_no_secret(training: SampleTraining, planted: dict[str, str]) -> None:
    """Require that no step printed a planted secret, that no prediction prints one, and that none is stored."""
    for step in training.steps:
        for name, value in planted.items():
            if value in step.log or value in step.error:
                fail(
                    f"step {step.step!r} prints the secret in {name}: a run stores what a step prints",
                    "remove the print or log call, or print only the name of the variable",
                )
    for name, value in planted.items():
        if value in repr(training.run.params):
            fail(f"a parameter of the run has the secret in {name}", "read it from the environment in the step")
        if file := _find_stored(training.folder, value):
            fail(f"the secret in {name} is stored in {file}", "do not return a secret from a step")
    _require_silent_predictions(training, planted)


def _require_silent_predictions(training: SampleTraining, planted: dict[str, str]) -> None:
    if training.run.state != "done":
        return
    with captured() as log:
        score(training.model, training.sample.joined.head(20).with_columns(pl.lit("x").alias("unused")))
    for name, value in planted.items():
        if value in log.text:
            fail(f"a prediction prints the secret in {name}", "remove the print or log call from the transformation")


def _find_stored(folder: Path, value: str) -> str:
    for file in folder.rglob("*"):
        if file.is_file() and value.encode() in file.read_bytes():
            return file.relative_to(folder).as_posix()
    return ""


def _list_variables(folder: Path) -> Iterator[str]:
    """Yield the names of environment variables in the code and the settings of a project."""
    for file in list_code_files(folder):
        text = file.read_text(encoding="utf-8", errors="replace")
        if file.suffix == ".toml":
            yield from _VARIABLE.findall(text)
        elif file.suffix == ".py":
            yield from _list_read(text)


def _list_read(text: str) -> Iterator[str]:
    """Yield the texts that the code passes to `os.environ[…]`, `os.environ.get` or `os.getenv`."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        key: ast.expr | None = None
        if isinstance(node, ast.Subscript) and _ends_with(node.value, "environ"):
            key = node.slice
        elif isinstance(node, ast.Call) and node.args and isinstance(node.func, ast.Attribute | ast.Name):
            is_get = isinstance(node.func, ast.Attribute) and _ends_with(node.func.value, "environ")
            key = node.args[0] if is_get or _ends_with(node.func, "getenv") else None
        if isinstance(key, ast.Constant) and isinstance(key.value, str):
            yield key.value


def _ends_with(node: ast.expr, name: str) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr == name) or (isinstance(node, ast.Name) and node.id == name)
