"""What a project's pipeline.py defines, read without running it."""

import ast
from pathlib import Path

from msgspec import Struct

from tidemill.errors import ConfigurationError

_NOUNS = ("step", "pipeline", "metric")


class Names(Struct, frozen=True):
    """Every name that is defined or imported, and which of them are steps or metrics, and so no pipelines."""

    all: frozenset[str]
    others: dict[str, str]


def names_in(code: Path) -> Names | None:
    """The names of a Python file; None where they cannot be told without running it.

    Raises
    ------
    ConfigurationError
        where a step, a pipeline or a metric has the name of another thing, with the line: Python would keep the last.
        Only a pipeline may take the place of one that is imported: a recipe.
    """
    try:
        tree = ast.parse(code.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return None
    nouns = _each_once(tree, code.name)
    found = _bound(tree)
    if "*" in found:
        return None
    return Names(frozenset(found), {name: noun for name, noun in nouns.items() if noun in ("step", "metric")})


def _each_once(tree: ast.Module, file: str) -> dict[str, str]:
    """What each name of the file's top level stands for; one that is imported stands for an import."""
    seen: dict[str, tuple[str, int]] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom):
            here = {alias.asname or alias.name: "import" for alias in node.names}
        elif isinstance(node, ast.FunctionDef) and (noun := _noun(node)):
            here = {node.name: noun}
        else:
            continue
        for name, noun in here.items():
            earlier, line = seen.get(name, (noun, 0))
            takes_its_place = earlier == "import" and noun in ("import", "pipeline")
            if line and not takes_its_place:
                raise ConfigurationError(
                    f"{file}, line {node.lineno}: the {noun} {name!r} has the name of the {earlier} in line {line}",
                    "give each a name of its own (an import: `as OTHER`)",
                )
            seen[name] = noun, node.lineno
    return {name: noun for name, (noun, _) in seen.items()}


def _noun(function: ast.FunctionDef) -> str:
    """What a decorator of Tidemill makes of a function: `@step`, `@step(retries=2)`, `@tidemill.step`."""
    for decorator in function.decorator_list:
        named = decorator.func if isinstance(decorator, ast.Call) else decorator
        name = named.attr if isinstance(named, ast.Attribute) else named.id if isinstance(named, ast.Name) else ""
        if name in _NOUNS:
            return name
    return ""


def _bound(tree: ast.Module) -> set[str]:
    """Every name that is bound outside functions and classes."""
    names: set[str] = set()
    waiting: list[ast.AST] = [tree]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                names.add(node.name)
                continue
            if isinstance(node, ast.Import | ast.ImportFrom):
                names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            waiting.append(node)
    return names
