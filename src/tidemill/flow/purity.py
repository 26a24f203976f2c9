"""Warns of steps of a project whose code reads something besides their inputs: a file, the clock, random numbers."""

import ast
import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from tidemill.core.pipeline import Graph, Step
from tidemill.project.effects import Effect, find_effects
from tidemill.telemetry import get_logger

_warned: set[str] = set()


class StepEffect(NamedTuple):
    """A read in the code of a step, with the name of its file."""

    file: str
    effect: Effect


def warn_of_effects(graph: Graph, folder: Path) -> None:
    """Log a warning for each step of the project in `folder` with such a read, once in this process.

    A step with `cache=False` runs every time, so its result is never out of date: it is not warned of.
    """
    for step in {node.step.name: node.step for node in graph.nodes.values()}.values():
        if not step.cache:
            continue
        for found in list_step_effects(step.function, folder):
            effect = found.effect
            text = (
                f"step {step.name!r} {effect.does} ({found.file}, line {effect.line}: {effect.code}): "
                "this is not part of its cache key, so a later run can use an old result, and `runs reproduce` can "
                f"find another one — {effect.cure}; or set @step(cache=False)"
            )
            if text not in _warned:
                _warned.add(text)
                get_logger("flow").warning("%s", text)


def list_step_effects(function: Callable[..., Any], folder: Path) -> list[StepEffect]:
    """Return the reads in a function, in the project's functions that it calls, and in the variables that it uses."""
    pending: list[Any] = [function]
    seen: set[int] = set()
    effects: list[StepEffect] = []
    while pending:
        current = pending.pop()
        current = getattr(current, "__wrapped__", None) or (current.function if isinstance(current, Step) else current)
        if id(current) in seen or not isinstance(current, FunctionType | type):
            continue
        seen.add(id(current))
        file = _find_file(current, folder)
        module = _parse(file) if file else None
        node = _find_definition(module, current) if module else None
        if file is None or module is None or node is None:
            continue
        scope = vars(inspect.getmodule(current) or ModuleType("none"))
        scope = getattr(current, "__globals__", scope)
        names = {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}
        read = [statement for statement in module.body if _assigns(statement, names)]
        effects += [StepEffect(file.name, effect) for effect in find_effects(module, [*_body(node), *read])]
        pending += _list_used(node, scope)
    return list(dict.fromkeys(effects))


def _find_file(code: Any, folder: Path) -> Path | None:
    """Return the file of a function or class of the project; None for other code."""
    try:
        file = Path(inspect.getsourcefile(code) or "").resolve()
    except TypeError:
        return None
    inside = file.is_relative_to(folder.resolve())
    return file if inside and not any(part in ("site-packages", ".venv") for part in file.parts) else None


@lru_cache(64)
def _parse_source(source: str) -> ast.Module | None:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError):
        return None


def _parse(file: Path) -> ast.Module | None:
    try:
        return _parse_source(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return None


def _find_definition(module: ast.Module, code: Any) -> ast.AST | None:
    """Return the definition of a function or class, by its qualified name."""
    node: ast.AST = module
    for name in code.__qualname__.split("."):
        if name == "<locals>":
            continue
        inside = (
            inner
            for inner in ast.walk(node)
            if isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and inner.name == name
        )
        found = next(inside, None)
        if found is None:
            return None
        node = found
    return node


def _body(node: ast.AST) -> list[ast.AST]:
    """Return the parts of a definition that run when it is called, without its decorators and annotations."""
    return list(getattr(node, "body", [node]))


def _assigns(statement: ast.stmt, names: set[str]) -> bool:
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return any(isinstance(target, ast.Name) and target.id in names for target in targets)


def _list_used(node: ast.AST, scope: dict[str, Any]) -> Iterator[Any]:
    """Yield the objects that a definition mentions: names of its module, and attributes of imported modules."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name) and inner.id in scope:
            yield scope[inner.id]
        elif isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name):
            module = scope.get(inner.value.id)
            if isinstance(module, ModuleType):
                yield getattr(module, inner.attr, None)
