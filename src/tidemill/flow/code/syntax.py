"""Parses a module into statements: the names that each one defines, mentions and imports."""

import ast
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from tidemill.flow.code.plain import ModuleNames, format_dotted_name
from tidemill.project.packaging import split_import

_WORD = re.compile(r"[^\W\d]\w*")
_PATH = re.compile(r"\.*[^\W\d]\w*(?:[./][^\W\d]\w*)*")
_MAX_TEXT = 10_000
# Lookups of names at run time: they can reach names that no source mentions.
_LOOKUPS = {"getattr", "hasattr", "globals", "locals", "vars", "dir"}
_LOOKUP_ATTRIBUTES = {
    *("__dict__", "__globals__", "__getattribute__", "__subclasses__", "f_globals", "f_locals", "_getframe"),
    *("currentframe", "getmembers", "attrgetter", "methodcaller", "get_objects", "get_referrers"),
    *("iter_modules", "walk_packages"),
}
# Loaders of code without an import: they can reach all source of the project.
_LOADERS = {"__import__", "eval", "exec", "compile"}
_LOADER_ATTRIBUTES = {
    *("import_module", "__import__", "run_path", "run_module", "spec_from_file_location", "module_from_spec"),
    *("SourceFileLoader", "exec_module", "load_module", "find_spec", "find_loader", "entry_points", "resolve_name"),
    *("locate", "pickle", "cloudpickle", "dill", "shelve", "Unpickler", "read_pickle", "allow_pickle"),
}
_LOADER_PAIRS = {"sys.modules", "builtins.eval", "builtins.exec", "builtins.compile", "joblib.load", "torch.load"}
# Readers of docstrings, and readers of source and line numbers.
_READERS = {"__doc__", "getdoc"}
_INSPECTORS = {"getsource", "getsourcelines", "getsourcefile", "findsource", "getcomments", "f_lineno", "tb_lineno"}
_SKIPPED = {"ctx", "kind", "type_comment", "type_ignores"}


class Import(NamedTuple):
    """An import in a statement: `name` is relative by `level`; `member` is the imported name, `*` for all;
    `bound` is the name in the importing module.
    """

    name: str
    level: int
    member: str
    bound: str


class Content(NamedTuple):
    """The content of a statement: normalized text, mentioned names, imports, and texts that look like module names.

    `bare` are names that are used without an attribute: a module can be passed on as such a value.
    """

    text: str
    names: frozenset[str]
    bare: frozenset[str]
    imports: tuple[Import, ...]
    paths: frozenset[str]
    looks_up: bool
    loads: bool
    reads_docs: bool
    reads_source: bool


class Statement:
    """A top-level statement; if it `defines` names, its only effect is their definition.

    A statement that defines nothing can have any effect when its module is imported.
    """

    def __init__(self, node: ast.stmt, names: ModuleNames) -> None:
        self.defines = names.list_defined_names(node)
        self.imports = tuple(_imports(node)) if isinstance(node, ast.Import | ast.ImportFrom) else ()
        self._node = node
        self._marks = names.marks

    @functools.cached_property
    def content(self) -> Content:
        return _Reader(self._marks, docstrings=False).content(self._node)

    @functools.cached_property
    def content_with_docstrings(self) -> Content:
        return _Reader(self._marks, docstrings=True).content(self._node)


@functools.lru_cache(maxsize=4096)
def parse_statements(source: bytes) -> tuple[Statement, ...]:
    """Return the top-level statements of a module.

    Raises
    ------
    SyntaxError, ValueError
        if it cannot be parsed.
    """
    tree = ast.parse(source)
    names = ModuleNames(tree)
    return tuple(Statement(part, names) for node in tree.body for part in split_import(node))


def _imports(node: ast.Import | ast.ImportFrom) -> Iterator[Import]:
    for alias in node.names:
        if isinstance(node, ast.Import):
            yield Import(alias.name, 0, "", alias.asname or alias.name.partition(".")[0])
        else:
            yield Import(node.module or "", node.level, alias.name, alias.asname or alias.name)


class _Reader:
    """Reads a statement: its text without layout and comments, and the names and modules that it refers to."""

    def __init__(self, marks: frozenset[str], *, docstrings: bool) -> None:
        self._marks = marks
        self._docstrings = docstrings
        self._out: list[str] = []
        self._names: set[str] = set()
        self._bare: set[str] = set()
        self._paths: set[str] = set()
        self._imports: list[Import] = []
        self._loads = False
        self._looks_up = False
        self._root: ast.AST | None = None
        self._special: dict[type[ast.AST], Callable[[Any], None]] = {
            ast.Constant: self._constant,
            ast.Name: self._name,
            ast.Attribute: self._attribute,
            ast.Call: self._call,
            ast.Import: self._import,
            ast.ImportFrom: self._import,
        }

    def content(self, node: ast.stmt) -> Content:
        self._root = node
        self._node(node)
        return Content(
            "".join(self._out),
            frozenset(self._names),
            frozenset(self._bare),
            tuple(self._imports),
            frozenset(self._paths),
            looks_up=self._looks_up,
            loads=self._loads,
            reads_docs=not self._names.isdisjoint(_READERS),
            reads_source=not self._names.isdisjoint(_INSPECTORS),
        )

    def _node(self, node: ast.AST) -> None:
        special = self._special.get(type(node))
        if special is not None:
            special(node)
        else:
            self._fields(node)

    def _fields(self, node: ast.AST) -> None:
        self._out.append(type(node).__name__ + "(")
        for field in node._fields:
            if field in _SKIPPED:
                continue
            value = getattr(node, field, None)
            if field == "decorator_list" and node is self._root:
                value = [
                    decorator
                    for decorator in value or ()
                    if format_dotted_name(getattr(decorator, "func", decorator)) not in self._marks
                ]
            self._value(value, is_body=field in ("body", "orelse", "finalbody"))
            if field in ("arg", "names", "kwd_attrs") and not isinstance(node, ast.arg):
                self._names.update([value] if isinstance(value, str) else value or ())
        self._out.append(")")

    def _value(self, value: Any, *, is_body: bool = False) -> None:
        if isinstance(value, ast.AST):
            self._node(value)
        elif isinstance(value, list):
            self._out.append("[")
            for member in value:
                if not (is_body and not self._docstrings and _is_text(member)):
                    self._value(member)
            self._out.append("]")
        else:
            self._out.append(f"{value!r},")

    def _constant(self, node: ast.Constant) -> None:
        self._out.append(f"{type(node.value).__name__} {node.value!r},")
        if isinstance(node.value, str) and len(node.value) < _MAX_TEXT:
            self._names.update(_WORD.findall(node.value))
            if _PATH.fullmatch(node.value):
                self._paths.add(node.value)

    def _name(self, node: ast.Name) -> None:
        self._mention(node.id)
        self._bare.add(node.id)
        self._out.append(f"Name({node.id})")

    def _attribute(self, node: ast.Attribute) -> None:
        self._mention(node.attr, attribute=True)
        self._loads |= format_dotted_name(node) in _LOADER_PAIRS
        self._out.append(f"Attribute({node.attr},")
        self._write_base(node.value)
        self._out.append(")")

    def _write_base(self, node: ast.expr) -> None:
        """Write the object of an attribute; a module in this position is not passed on."""
        if isinstance(node, ast.Name):
            self._mention(node.id)
            self._out.append(f"Name({node.id})")
        elif isinstance(node, ast.Call):
            self._call(node, is_base=True)
        else:
            self._node(node)

    def _mention(self, name: str, *, attribute: bool = False) -> None:
        self._names.add(name)
        self._looks_up |= name in _LOOKUP_ATTRIBUTES or (name in _LOOKUPS and not attribute)
        self._loads |= name in _LOADER_ATTRIBUTES or (name in _LOADERS and not attribute)

    def _call(self, node: ast.Call, *, is_base: bool = False) -> None:
        name = format_dotted_name(node.func)
        first, second, *_ = (*node.args, None, None)
        if name in ("getattr", "hasattr") and isinstance(second, ast.Constant) and first is not None:
            self._out.append(f"Call({name},")
            self._write_base(first)
            self._value(node.args[1:])
            self._out.append(")")
        elif name.endswith("import_module") and isinstance(first, ast.Constant) and isinstance(first.value, str):
            self._out.append(f"Call({name},")
            self._value(node.args)
            self._value(node.keywords)
            self._out.append(")")
            self._names.update(name.split("."))
            self._looks_up |= not is_base  # the imported module may be passed on
            self._import_by_name(first.value, [*node.args[1:], *(keyword.value for keyword in node.keywords)])
        else:
            self._fields(node)

    def _import_by_name(self, path: str, anchors: list[ast.expr]) -> None:
        name = path.lstrip(".")
        self._imports.append(Import(name, len(path) - len(name), "", ""))
        for anchor in anchors if name != path else ():
            if isinstance(anchor, ast.Constant) and isinstance(anchor.value, str):
                self._imports.append(Import(f"{anchor.value}.{name}", 0, "", ""))
            elif format_dotted_name(anchor) not in ("__package__", "__name__"):
                self._loads = True

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        for imported in _imports(node):
            self._imports.append(imported)
            self._names.update(_WORD.findall(f"{imported.name} {imported.member}"))
            self._out.append(f"Import({imported.level} {imported.name} {imported.member} {imported.bound})")
            if imported.member != "import_module" or imported.bound != imported.member:
                self._mention(imported.member or imported.name)
            self._loads |= f"{imported.name}.{imported.member}" in _LOADER_PAIRS


def _is_text(node: Any) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
