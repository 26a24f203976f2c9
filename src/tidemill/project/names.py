"""Reads which names pipeline.py defines, without running it."""

import ast
from pathlib import Path

from msgspec import Struct

from tidemill.errors import ConfigurationError

BUILT_IN = frozenset({"ci", "deployment", "upgrade"})
"""The pipelines that need not be in pipeline.py, because they run no code of the project in their own process."""

_DECORATORS = ("step", "pipeline", "metric")


class DefinedNames(Struct, frozen=True):
    """All names that a file defines or imports; `not_pipelines` are its steps and metrics, with their kind."""

    all: frozenset[str]
    not_pipelines: dict[str, str]


def read_names(code: Path) -> DefinedNames | None:
    """Return the names of a Python file, or None if only running it shows them.

    Raises
    ------
    ConfigurationError
        if a step, a pipeline or a metric has the same name as another definition: Python would keep only the last.
        Only an imported recipe can be replaced, by a pipeline.
    """
    try:
        tree = ast.parse(code.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    kinds = _find_kinds(tree, code.name)
    names = _list_bound_names(tree)
    if "*" in names:
        return None
    return DefinedNames(frozenset(names), {name: kind for name, kind in kinds.items() if kind in ("step", "metric")})


def _find_kinds(tree: ast.Module, file: str) -> dict[str, str]:
    """Return the kind of each top-level name: step, pipeline, metric or import."""
    seen: dict[str, tuple[str, int]] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            defined = {alias.asname or alias.name: "import" for alias in node.names}
        elif isinstance(node, ast.FunctionDef) and (kind := _find_decorator(node)):
            defined = {node.name: kind}
        else:
            continue
        for name, kind in defined.items():
            earlier, line = seen.get(name, (kind, 0))
            is_replacement = earlier == "import" and kind in ("import", "pipeline")
            if line and not is_replacement:
                raise ConfigurationError(
                    f"{file}, line {node.lineno}: the {kind} {name!r} has the name of the {earlier} in line {line}",
                    "rename one of them (an import: `as OTHER`)",
                )
            seen[name] = kind, node.lineno
    return {name: kind for name, (kind, _) in seen.items()}


def _find_decorator(function: ast.FunctionDef) -> str:
    """Return the decorator of Tidemill on a function: `@step`, `@step(retries=2)` or `@tidemill.step`."""
    for decorator in function.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
        if name in _DECORATORS:
            return name
    return ""


def _list_bound_names(tree: ast.Module) -> set[str]:
    """Return all names that are bound outside functions and classes."""
    names: set[str] = set()
    pending: list[ast.AST] = [tree]
    while pending:
        for node in ast.iter_child_nodes(pending.pop()):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
                continue
            if isinstance(node, ast.Import | ast.ImportFrom):
                names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            pending.append(node)
    return names
