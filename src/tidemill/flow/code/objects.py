"""Walks over the objects that a function reaches: functions, classes, modules, globals and values."""

import dis
import functools
import importlib
import importlib.util
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import PurePath
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, NamedTuple, get_args, get_origin

import msgspec

from tidemill.blobs.codecs import encode
from tidemill.core.pipeline import Pipeline, Step
from tidemill.errors import TidemillError
from tidemill.flow.code.modules import digest_package, find_project_module, is_project_module, top_level_name

_SIMPLE = (str, bytes, bytearray, int, float, complex, bool, type(None), type(...))
_CONTAINERS = (dict, list, set, frozenset, MappingProxyType, tuple)
# Converts an instance of a derived class to its plain value, without the methods of the class.
_EXACT: dict[type, Callable[[Any], Any]] = {
    str: str.__str__,
    int: int.__int__,
    float: float.__float__,
}
# Values whose state differs between processes, or changes while they are used.
_VOLATILE = ("os.", "io.", "_io.", "random.", "numpy.random.", "logging.", "threading.", "socket.", "asyncio.")
_WORD = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
# The flags of a code object for variable arguments, generators and coroutines.
_KINDS = 0x3AC
_STRUCT = ("__struct_fields__", "__struct_defaults__")


class ObjectWalk:
    """A walk over all objects that a function reaches; each object is visited once.

    Functions, classes and modules of the project are followed; for an installed package its digest counts. `roots`
    are the visited functions and classes, as pairs of module and name.
    """

    def __init__(self) -> None:
        # The objects are kept alive, because an id can be used again.
        self._seen: dict[int, tuple[int, Any]] = {}
        self._is_project: dict[str, bool] = {}
        self.roots: set[tuple[str, str]] = set()

    def parts(self, value: Any) -> Iterator[bytes]:
        """Yield the parts of a value, which are the same in every process."""
        if type(value) in _SIMPLE:
            yield f"{type(value).__name__} {value!r}".encode(errors="surrogatepass")
            return
        if type(value) is tuple:
            yield f"tuple {len(value)}".encode()
            for member in value:
                yield from self.parts(member)
            return
        if id(value) in self._seen:
            yield f"seen {self._seen[id(value)][0]}".encode()
            return
        self._seen[id(value)] = len(self._seen), value
        yield from self._first_seen(value)

    def _first_seen(self, value: Any) -> Iterator[bytes]:
        if isinstance(value, Step | Pipeline):
            yield from self.parts(value.function)
        elif isinstance(value, FunctionType):
            yield from self._function(value)
        elif isinstance(value, type):
            yield from self._class(value)
        elif isinstance(value, ModuleType):
            yield from self._module(value, ())
        elif isinstance(value, BuiltinFunctionType):
            yield f"{value.__module__}.{value.__qualname__}".encode()
        elif isinstance(value, functools.partial):
            yield from self.parts((value.func, value.args, value.keywords))
        elif isinstance(value, MethodType):
            yield from self.parts((value.__func__, value.__self__))
        elif isinstance(value, property):
            yield from self.parts((value.fget, value.fset, value.fdel))
        elif isinstance(value, functools.cached_property):
            yield from self.parts(value.func)
        elif isinstance(getattr(value, "__wrapped__", None), FunctionType):
            yield type(value).__qualname__.encode()
            yield from self.parts(value.__wrapped__)
        elif type(value) in _CONTAINERS:
            yield from self._container(value)
        else:
            yield from self._instance(value)

    def _function(self, value: FunctionType) -> Iterator[bytes]:
        # Generated functions, such as those of named tuples, have no real module: only their code counts.
        if value.__module__ in sys.modules and not self._followed(value.__module__):
            yield _describe_external(value.__module__, value.__qualname__)
            yield from self._walk_wrapped(value)
            return
        self.roots.add((value.__module__ or "", value.__qualname__.partition(".")[0]))
        yield from self._code(value.__code__)
        yield from self.parts((value.__defaults__, value.__kwdefaults__))
        # Attributes by functools: the wrapped function, and the implementations for other types.
        yield from self.parts(tuple(vars(value).get(name) for name in ("__wrapped__", "registry")))
        for cell in value.__closure__ or ():
            try:
                yield from self.parts(cell.cell_contents)
            except ValueError:  # the cell is empty
                yield b"empty"
        reach = _reach(value.__code__)
        for name in reach.globals:
            found = value.__globals__.get(name)
            if isinstance(found, ModuleType):
                yield from self._module(found, reach.attributes)
            elif name in value.__globals__:
                yield from self.parts(found)
        package = str(value.__globals__.get("__package__") or "")
        for name in _full_names(reach.imports, package) | _list_words(reach):
            yield from self._import(name, reach.attributes)

    def _walk_wrapped(self, value: FunctionType) -> Iterator[bytes]:
        """Yield the parts of the project's functions, classes and plain values that a function of a package wraps."""
        members = [vars(value).get("__wrapped__"), *(value.__defaults__ or ())]
        for cell in value.__closure__ or ():
            try:
                members.append(cell.cell_contents)
            except ValueError:
                members.append(None)
        for member in members:
            is_code = isinstance(member, FunctionType | type | functools.partial | MethodType | Step)
            if type(member) in _SIMPLE or (is_code and self._followed(getattr(member, "__module__", None))):
                yield from self.parts(member)

    def _code(self, code: CodeType) -> Iterator[bytes]:
        instructions, constants = _instructions(code)
        yield instructions + code.co_exceptiontable
        yield f"{code.co_argcount} {code.co_posonlyargcount} {code.co_kwonlyargcount} {code.co_flags & _KINDS}".encode()
        yield " ".join((*code.co_names, *code.co_varnames, *code.co_freevars)).encode()
        for constant in constants:
            if isinstance(constant, CodeType):
                yield from self._code(constant)
            else:
                yield from self.parts(constant)

    def _class(self, value: type) -> Iterator[bytes]:
        if not self._followed(value.__module__):
            yield _describe_external(value.__module__, value.__qualname__)
            return
        self.roots.add((value.__module__, value.__qualname__.partition(".")[0]))
        yield value.__qualname__.encode()
        yield from self.parts(value.__bases__)
        if self._followed(type(value).__module__):
            yield from self.parts(type(value))
        for name, hint in sorted(inspect.get_annotations(value).items()):
            yield name.encode()
            yield from self._hint(hint)
        yield from self.parts(tuple(getattr(value, name, None) for name in _STRUCT))
        for name, member in sorted(vars(value).items()):
            function = getattr(member, "__func__", member)
            is_data = not isinstance(function, FunctionType)
            if is_data and name.startswith(("__", "_abc_")):
                continue
            if not isinstance(function, MemberDescriptorType | GetSetDescriptorType):
                yield name.encode()
                yield from self.parts(function)

    def _hint(self, hint: Any) -> Iterator[bytes]:
        if not get_args(hint):
            yield from self.parts(hint if isinstance(hint, type | str) else str(hint))
            return
        yield str(get_origin(hint)).encode()
        for argument in get_args(hint):
            yield from self._hint(argument)

    def _module(self, module: ModuleType, attributes: tuple[str, ...]) -> Iterator[bytes]:
        """Yield the parts of the used attributes of a project module, or the digest of another module."""
        if not self._followed(module.__name__):
            yield _describe_external(module.__name__, "")
            return
        self.roots.add((module.__name__, ""))
        for name in attributes:
            found = vars(module).get(name)
            if isinstance(found, ModuleType):
                yield from self._module(found, attributes) if found is not module else ()
            elif name in vars(module):
                yield name.encode()
                yield from self.parts(found)

    def _import(self, name: str, attributes: tuple[str, ...]) -> Iterator[bytes]:
        """Yield the parts of a module that the function imports when it runs; a project module is imported now."""
        if name not in sys.modules and find_project_module(name) is not None:
            try:
                importlib.import_module(name)
            except Exception:  # noqa: BLE001 - the function's own import raises it again
                yield name.encode()
                return
        if name in sys.modules and self._followed(name):
            yield from self._module(sys.modules[name], attributes)
        else:
            yield _describe_external(name, "")

    def _container(self, value: Any) -> Iterator[bytes]:
        yield f"{type(value).__name__} {len(value)}".encode()
        if isinstance(value, dict | MappingProxyType):
            for key, member in value.items():
                yield from self.parts((key, member))
        elif isinstance(value, list | tuple):
            for member in value:
                yield from self.parts(member)
        else:
            yield from sorted(self._walk_separately(member) for member in value)

    def _walk_separately(self, value: Any) -> bytes:
        """Return the parts of a member of a set; they do not depend on the other members."""
        separate = ObjectWalk()
        separate._seen = dict(self._seen)
        found = b"\0".join(separate.parts(value))
        self.roots |= separate.roots
        return found

    def _instance(self, value: Any) -> Iterator[bytes]:
        """Yield the parts of a value that is not code: its class and its content or its text."""
        yield from self.parts(type(value))
        yield from self.parts(getattr(value, "default_factory", None))
        if (plain := to_plain_value(value)) is not None:
            yield from self.parts(plain) if type(plain) in _SIMPLE else self._container(plain)
            if hasattr(value, "__dict__"):
                yield from self.parts(tuple(sorted(vars(value).items())))
        elif isinstance(value, PurePath):
            yield b"" if value.is_absolute() else value.as_posix().encode()
        elif isinstance(value, re.Pattern):
            yield from self.parts((value.pattern, value.flags))
        elif isinstance(value, msgspec.Struct):
            yield from self.parts(tuple(getattr(value, name, None) for name in value.__struct_fields__))
        elif self._followed(type(value).__module__) and hasattr(value, "__dict__"):
            yield from self.parts(tuple(sorted(vars(value).items())))
            yield from self.parts(_read_slots(value))
        elif (content := _encode(value)) is not None:
            yield content
        elif (state := _reduce(value)) is not None:
            yield from self.parts(state)
        elif top_level_name(type(value).__module__) not in sys.stdlib_module_names and " at 0x" not in str(value):
            yield str(value).encode(errors="surrogatepass")

    def _followed(self, module: str | None) -> bool:
        if module not in self._is_project:
            self._is_project[module or ""] = is_project_module(module)
        return self._is_project[module or ""]


class _Reach(NamedTuple):
    globals: tuple[str, ...]
    attributes: tuple[str, ...]
    imports: tuple[tuple[str, int, tuple[str, ...]], ...]
    words: tuple[str, ...]


@functools.cache
def _reach(code: CodeType) -> _Reach:
    """Return the names in code: loaded globals, attributes, imported modules, and words among its constants.

    A word can be the name of an attribute or a module that the code looks up.
    """
    loaded: dict[str, None] = {}
    imported: dict[tuple[str, int, tuple[str, ...]], None] = {}
    words = {constant: None for constant in code.co_consts if isinstance(constant, str) and _WORD.fullmatch(constant)}
    names = dict.fromkeys((*code.co_names, *words))
    constants: list[Any] = [0, None]
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            loaded[instruction.argval] = None
        elif instruction.opcode in dis.hasconst:
            constants.append(code.co_consts[instruction.arg or 0])
        elif instruction.opname == "IMPORT_NAME":
            level, members = constants[-2:]
            from_names = (
                tuple(name for name in members or () if isinstance(name, str)) if isinstance(members, tuple) else ()
            )
            imported[instruction.argval, level if isinstance(level, int) else 0, from_names] = None
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = _reach(constant)
            loaded.update(dict.fromkeys(inner.globals))
            names.update(dict.fromkeys(inner.attributes))
            imported.update(dict.fromkeys(inner.imports))
            words.update(dict.fromkeys(inner.words))
    return _Reach(tuple(loaded), tuple(names), tuple(imported), tuple(words))


def _full_names(imports: tuple[tuple[str, int, tuple[str, ...]], ...], package: str) -> dict[str, None]:
    """Return the full names of the imported modules, in order, with those imported from a package."""
    names: dict[str, None] = {}
    for name, level, members in imports:
        try:
            base = importlib.util.resolve_name("." * level + name, package) if level else name
        except ImportError:
            continue
        names[base] = None
        submodules = [f"{base}.{member}" for member in members if member != "*"]
        names.update({name: None for name in submodules if find_project_module(name) is not None})
    return names


def _list_words(reach: _Reach) -> dict[str, None]:
    """Return words that can be names of modules, if a function imports by name."""
    return dict.fromkeys(reach.words) if "import_module" in reach.attributes else {}


@functools.cache
def _instructions(code: CodeType) -> tuple[bytes, tuple[Any, ...]]:
    """Return the instructions of code and the constants that it loads, in order, without the docstring.

    Instructions do not contain the index of a constant, because a docstring changes it. Some constants belong to an
    instruction that loads nothing, such as the names of keyword arguments.
    """
    content = bytearray()
    constants = []
    for instruction in dis.get_instructions(code):
        argument = instruction.arg or 0
        if instruction.opcode in dis.hasconst or instruction.opname == "KW_NAMES":
            constants.append(code.co_consts[argument])
            argument = 0
        content += instruction.opcode.to_bytes(2, "big") + argument.to_bytes(4, "big")
    return bytes(content), tuple(constants)


def _describe_external(module: str, name: str) -> bytes:
    return f"{module}.{name} {digest_package(top_level_name(module))}".encode()


def to_plain_value(value: Any) -> Any:
    """Return the plain value of an instance of a class derived from a plain type; None for other values."""
    kinds: tuple[type, ...] = (*_EXACT, bytes, bytearray, complex, dict, list, set, frozenset, tuple)
    kind = next((plain for plain in kinds if isinstance(value, plain)), None)
    if kind is None:
        return None
    try:
        return _EXACT.get(kind, kind)(value)
    except Exception:  # noqa: BLE001 - what its class makes of it
        return None


def _read_slots(value: Any) -> tuple[tuple[str, Any], ...]:
    """Return the values in the slots of an object, by name."""
    slots = [vars(kind).get("__slots__", ()) for kind in type(value).__mro__]
    names = {name for names in slots for name in ((names,) if isinstance(names, str) else names)}
    names -= {"__dict__", "__weakref__"}
    return tuple((name, getattr(value, name)) for name in sorted(names) if hasattr(value, name))


def _reduce(value: Any) -> tuple[Any, ...] | None:
    """Return the state of a value for pickle; None if it has no state, or a volatile one."""
    if f"{type(value).__module__}.".startswith(_VOLATILE):
        return None
    try:
        with warnings.catch_warnings(action="ignore"):
            reduced = value.__reduce_ex__(2)
            return (
                (reduced,)
                if isinstance(reduced, str)
                else tuple(list(part) if isinstance(part, Iterator) else part for part in reduced)
            )
    except Exception:  # noqa: BLE001 - whatever its own method raises
        return None


def _encode(value: Any) -> bytes | None:
    """Return the bytes of an array, a frame or another value with a codec; None for other values."""
    try:
        view = memoryview(value)
    except (TypeError, ValueError):
        pass
    else:
        return None if "O" in view.format else f"{view.format} {view.shape}".encode() + view.tobytes()
    try:
        return encode(value)
    except TidemillError:
        return None
