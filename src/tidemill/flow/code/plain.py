"""Finds the statements of a module that only define a name and have no other effect."""

import ast

_MARKS = {"step", "pipeline", "metric"}
# Decorators and bases that register nothing, by the modules that they come from.
_HARMLESS = {
    "builtins": "property staticmethod classmethod object BaseException Exception ValueError TypeError KeyError "
    "LookupError RuntimeError",
    "functools": "cache lru_cache cached_property total_ordering",
    "dataclasses": "dataclass field",
    "abc": "abstractmethod ABC",
    "enum": "Enum IntEnum StrEnum Flag IntFlag",
    "typing": "NamedTuple TypedDict Protocol Generic override final overload",
    "typing_extensions": "NamedTuple TypedDict Protocol Generic override final overload",
    "msgspec": "Struct field",
}


class ModuleNames:
    """The meaning of the names of a module, as far as it decides which statements only define a name.

    `marks` are the names of `step`, `pipeline` and `metric`, which change nothing in the function that they decorate.
    """

    def __init__(self, tree: ast.Module) -> None:
        self._bound_to: dict[str, str] = {}
        self._rebound: set[str] = set()
        pending: list[ast.AST] = list(tree.body)
        while pending:
            node = pending.pop()
            self._record_binding(node)
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                # Local names of a function do not bind names of the module.
                self._rebound.update(
                    name for inner in ast.walk(node) if isinstance(inner, ast.Global) for name in inner.names
                )
            else:
                pending += ast.iter_child_nodes(node)
        known = {f"{module}.{name}" for module, names in _HARMLESS.items() for name in names.split()}
        builtins = set(_HARMLESS["builtins"].split()) - self._bound_to.keys() - self._rebound
        self._harmless = builtins | {
            name
            for bound, origin in self._bound_to.items()
            for name in [bound, *(f"{bound}.{member}" for member in _HARMLESS.get(origin, "").split())]
            if bound not in self._rebound and origin + name.removeprefix(bound) in known
        }
        self.marks = frozenset(
            mark
            for bound, origin in self._bound_to.items()
            if bound not in self._rebound and origin.partition(".")[0] == "tidemill"
            for mark in ([bound] if origin.rpartition(".")[2] in _MARKS else [f"{bound}.{name}" for name in _MARKS])
        )

    def _record_binding(self, node: ast.AST) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self._rebound.add(node.name)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            self._rebound.add(node.id)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                self._bind(alias.asname or alias.name, f"{'.' * node.level}{node.module or ''}.{alias.name}")
        elif isinstance(node, ast.Import):
            for alias in node.names:
                self._bind(alias.asname or alias.name.partition(".")[0], alias.name)

    def _bind(self, name: str, origin: str) -> None:
        if self._bound_to.setdefault(name, origin) != origin:
            self._rebound.add(name)

    def list_defined_names(self, node: ast.stmt) -> tuple[str, ...]:
        """Return the names that a statement defines, empty if it may have another effect."""
        names: tuple[str, ...] = ()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            names = (node.name,) if self._is_plain_function(node) else ()
        elif isinstance(node, ast.ClassDef):
            names = (node.name,) if self._is_plain_class(node) else ()
        elif isinstance(node, ast.Import):
            names = tuple(alias.asname or alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module != "__future__":
            names = tuple(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign) and _is_plain(node.value):
            named = [target.id for target in node.targets if isinstance(target, ast.Name)]
            names = tuple(named) if len(named) == len(node.targets) else ()
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = (node.target.id,) if _is_plain(node.value) and _is_plain_hint(node.annotation) else ()
        return () if any(name == "*" or name.startswith("__") for name in names) else names

    def _is_plain_function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
        arguments = node.args
        parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, arguments.vararg, arguments.kwarg]
        hints = [argument.annotation for argument in parameters if argument is not None]
        return (
            all(self._is_plain_decorator(decorator, node.name) for decorator in node.decorator_list)
            and all(map(_is_plain, [*arguments.defaults, *arguments.kw_defaults]))
            and all(map(_is_plain_hint, [*hints, node.returns]))
        )

    def _is_plain_class(self, node: ast.ClassDef) -> bool:
        if node.keywords or not all(
            self._is_plain_decorator(decorator, node.name) for decorator in node.decorator_list
        ):
            return False
        bases = (base.value if isinstance(base, ast.Subscript) else base for base in node.bases)
        return all(format_dotted_name(base) in self._harmless for base in bases) and all(
            map(self._is_plain_member, node.body)
        )

    def _is_plain_member(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return self._is_plain_function(node)
        if isinstance(node, ast.Assign):
            return _is_plain(node.value)
        if isinstance(node, ast.AnnAssign):
            return _is_plain_hint(node.annotation) and (_is_plain(node.value) or self._is_field(node.value))
        return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))

    def _is_field(self, node: ast.expr | None) -> bool:
        return (
            isinstance(node, ast.Call)
            and format_dotted_name(node.func) in self._harmless
            and _has_plain_arguments(node)
        )

    def _is_plain_decorator(self, node: ast.expr, name: str) -> bool:
        if isinstance(node, ast.Call):
            return _has_plain_arguments(node) and self._is_plain_decorator(node.func, name)
        decorator = format_dotted_name(node)
        return decorator in self.marks | self._harmless | {f"{name}.setter", f"{name}.deleter"}


def _has_plain_arguments(node: ast.Call) -> bool:
    return all(map(_is_plain, [*node.args, *(keyword.value for keyword in node.keywords)]))


def _is_plain(node: ast.expr | None) -> bool:
    """Return whether an expression has no effect."""
    if node is None or isinstance(node, ast.Constant | ast.Name):
        return True
    if isinstance(node, ast.Lambda):
        return all(map(_is_plain, [*node.args.defaults, *node.args.kw_defaults]))
    if isinstance(node, ast.Attribute):
        return _is_plain(node.value)
    if isinstance(node, ast.Tuple | ast.List | ast.Set):
        return all(map(_is_plain, node.elts))
    if isinstance(node, ast.Dict):
        return all(map(_is_plain, [*node.keys, *node.values]))
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.operand, ast.Constant)
    if isinstance(node, ast.BinOp):
        return all(isinstance(side, ast.Constant | ast.BinOp) and _is_plain(side) for side in (node.left, node.right))
    return False


def _is_plain_hint(node: ast.expr | None) -> bool:
    """Return whether a type hint has no effect: it contains only plain values, `[]` and `|`."""
    if isinstance(node, ast.Subscript):
        return _is_plain_hint(node.value) and _is_plain_hint(node.slice)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _is_plain_hint(node.left) and _is_plain_hint(node.right)
    if isinstance(node, ast.Tuple | ast.List):
        return all(map(_is_plain_hint, node.elts))
    return _is_plain(node)


def format_dotted_name(node: ast.AST) -> str:
    """Return a name with its attributes, such as `a.b`; an attribute of another expression starts with a dot."""
    if isinstance(node, ast.Attribute):
        return f"{format_dotted_name(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""
