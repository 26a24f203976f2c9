"""Extracts the code of transformations from features.py, so that a model package contains it and runs it alone."""

import ast
from collections.abc import Iterable, Iterator
from copy import copy
from pathlib import Path

from tidemill.core.transformation import Transformation
from tidemill.errors import ConfigurationError
from tidemill.project.effects import find_effects

MODULE = "tidemill_features"
_FOLDER = "code/"


def extract_code(file: Path, transformations: Iterable[Transformation]) -> dict[str, str]:
    """Return the source that these transformations of a features.py need, by its path in a package.

    Of `features.py` it is only what the functions mention, directly or indirectly, without comments and docstrings; of
    the project's other modules that these statements import, the whole files.

    Raises
    ------
    ConfigurationError
        if a function is not defined at the top level of the file, or if the code reads something besides its columns:
        a file, the clock, a random number, the environment, the network.
    """
    names = [transformation.function.__name__ for transformation in transformations]
    if not names:
        return {}
    tree = ast.parse(file.read_bytes())
    defined = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
    for transformation in transformations:
        if transformation.__module__ != f"{file.parent.name}_{file.stem}" or transformation.name not in defined:
            raise ConfigurationError(
                f"transformation {transformation.name!r} is not a function at the top level of {file.name}",
                "define it there with `def`; it can call functions of other modules of the project",
            )
    module = _Pruning(tree, names).module
    _require_pure(module, file.name)
    code = {f"{_FOLDER}{MODULE}.py": ast.unparse(module) + "\n"}
    pending = [module]
    while pending:
        for name in list_imports(pending.pop()):
            for source in _list_files(file.parent, name):
                path = _FOLDER + source.relative_to(file.parent).as_posix()
                if path not in code:
                    code[path] = source.read_text(encoding="utf-8")
                    pending.append(ast.parse(code[path]))
    return code


class _Pruning:
    """Keeps the top-level statements of a module that some functions need."""

    def __init__(self, tree: ast.Module, names: list[str]) -> None:
        self._statements = [part for node in tree.body for part in split_import(node)]
        self._bound = [set(_list_bound(node)) for node in self._statements]
        self._variables = {
            name
            for node, names in zip(self._statements, self._bound, strict=True)
            if not isinstance(node, ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef)
            for name in names
        }
        kept: set[int] = set()
        self._needed = set(names)
        before = -1
        while before != len(kept):
            before = len(kept)
            for index, node in enumerate(self._statements):
                if index not in kept and self._is_needed(node, self._bound[index]):
                    kept.add(index)
                    self._needed |= _list_mentioned(node)
        body = [_clean(node) for index, node in enumerate(self._statements) if index in kept]
        self.module = ast.Module(body=body, type_ignores=[])

    def _is_needed(self, node: ast.stmt, bound: set[str]) -> bool:
        if isinstance(node, ast.ImportFrom) and (node.module == "__future__" or "*" in bound):
            return node.module != "tidemill"
        if bound:
            return not bound.isdisjoint(self._needed)
        # A statement such as CODES["x"] = 1 changes a variable.
        return not (self._needed & self._variables).isdisjoint(_list_mentioned(node))


def split_import(node: ast.stmt) -> Iterator[ast.stmt]:
    """Yield an import of several names as several imports, and other statements as they are."""
    if isinstance(node, ast.Import):
        yield from (ast.Import(names=[alias]) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield from (ast.ImportFrom(module=node.module, names=[alias], level=node.level) for alias in node.names)
    else:
        yield node


def _list_bound(node: ast.AST) -> Iterator[str]:
    """Yield the names that a statement binds in the module."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
        return
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node.id
    elif isinstance(node, ast.comprehension | ast.Lambda):
        return
    for child in ast.iter_child_nodes(node):
        yield from _list_bound(child)


def _list_mentioned(node: ast.stmt) -> set[str]:
    node = _clean(node)
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def _clean(node: ast.stmt) -> ast.stmt:
    """Return a statement without the decorator of a transformation and without its docstring."""
    if not isinstance(node, ast.FunctionDef):
        return node
    decorators = [decorator for decorator in node.decorator_list if not _is_mark(decorator)]
    has_docstring = ast.get_docstring(node, clean=False) is not None and len(node.body) > 1
    body = node.body[1:] if has_docstring else node.body
    cleaned = copy(node)
    cleaned.body, cleaned.decorator_list = body, decorators
    return cleaned


def _is_mark(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return (called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")) == "transformation"


def list_imports(tree: ast.AST) -> set[str]:
    """Return the top-level modules that a syntax tree imports, at any depth."""
    modules: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            modules.add(node.module.partition(".")[0])
    return modules


def _list_files(folder: Path, module: str) -> list[Path]:
    """Return the source files of a module of the project; none if it is installed or part of Python."""
    if (folder / f"{module}.py").is_file():
        return [folder / f"{module}.py"]
    return sorted((folder / module).rglob("*.py")) if (folder / module).is_dir() else []


def _require_pure(module: ast.Module, file: str) -> None:
    effects = find_effects(module, module.body)
    if effects:
        effect = effects[0]
        raise ConfigurationError(
            f"a transformation in {file} {effect.does} ({effect.code}): its result would not be the same at serving",
            effect.cure_of_transformation,
        )
