"""The digest of a step's code: its own, and that of all the functions, classes, modules and globals that it reaches."""

import dis
import functools
import hashlib
import importlib.metadata
import importlib.util
import inspect
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
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

from tidemill.blobs.codecs import encode
from tidemill.core.pipeline import Pipeline, Step
from tidemill.errors import TidemillError

_SIMPLE = (str, bytes, int, float, complex, type(None), type(...))
# Values whose state is another in each process, or changes as they are used.
_RESTLESS = ("os.", "io.", "_io.", "random.", "numpy.random.", "logging.", "threading.", "socket.", "asyncio.")
_WORD = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_STRUCT = ("__struct_fields__", "__struct_defaults__")


def fingerprint(function: Callable[..., Any]) -> str:
    """The digest of what a function does, as far as code says it; it is the same in every process.

    Followed are functions, classes and modules of the project and of its own package; another package counts by
    its version. Comments, docstrings, line numbers and where a file lies do not count.
    """
    walk = _Walk(_package(getattr(function, "__module__", "")))
    content = hashlib.sha256(f"python {sys.version_info.major}.{sys.version_info.minor}".encode())
    for part in walk.parts(function):
        content.update(len(part).to_bytes(8, "big") + part)
    return content.hexdigest()


def fingerprint_of(name: str) -> str:
    """The same of what `module:Class` names: of the project's own its code, else the version of its package.

    What cannot be imported is its name alone: whoever uses it tells why.
    """
    module, _, attribute = name.partition(":")
    package = _package(module)
    if not (_is_project(package) if package in sys.modules else _place(package)):
        return f"{name} {_version(package)}"
    try:
        return fingerprint(getattr(importlib.import_module(module), attribute))
    except Exception:  # noqa: BLE001 - the code of a project may raise anything
        return name


class _Walk:
    """One walk over all that a function reaches; what has an identity is visited once."""

    def __init__(self, home: str) -> None:
        self._home = home
        # Kept alive, not only remembered by its id: an id may be given again.
        self._seen: dict[int, Any] = {}

    def parts(self, value: Any) -> Iterator[bytes]:
        if isinstance(value, _SIMPLE):
            yield f"{type(value).__name__} {value!r}".encode()
            return
        if isinstance(value, tuple):
            yield b"tuple"
            for member in value:
                yield from self.parts(member)
            return
        if id(value) in self._seen:
            yield b"seen"
            return
        self._seen[id(value)] = value
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
        elif isinstance(value, dict | list | set | frozenset | MappingProxyType):
            yield from self._container(value)
        else:
            yield from self._instance(value)

    def _function(self, value: FunctionType) -> Iterator[bytes]:
        # Generated functions, as those of named tuples, have a module that is none: their code is all there is.
        if value.__module__ in sys.modules and not self._followed(value.__module__):
            yield f"{value.__module__}.{value.__qualname__} {_version(_package(value.__module__))}".encode()
            return
        yield from self._code(value.__code__)
        yield from self.parts((value.__defaults__, value.__kwdefaults__))
        # What functools keeps beside a function: the one that it wraps, and those for other types.
        yield from self.parts(tuple(vars(value).get(name) for name in ("__wrapped__", "registry")))
        for cell in value.__closure__ or ():
            try:
                yield from self.parts(cell.cell_contents)
            except ValueError:  # not filled yet
                yield b"empty"
        reach = _reach(value.__code__)
        for name in reach.globals:
            found = value.__globals__.get(name)
            if isinstance(found, ModuleType):
                yield from self._module(found, reach.attributes)
            elif name in value.__globals__:
                yield from self.parts(found)
        for name in reach.imports + (reach.words if "import_module" in reach.attributes else ()):
            yield from self._import(name, reach.attributes)

    def _code(self, code: CodeType) -> Iterator[bytes]:
        instructions, constants = _instructions(code)
        yield instructions + code.co_exceptiontable
        yield f"{code.co_argcount} {code.co_posonlyargcount} {code.co_kwonlyargcount}".encode()
        yield " ".join((*code.co_names, *code.co_varnames, *code.co_freevars)).encode()
        for constant in constants:
            if isinstance(constant, CodeType):
                yield from self._code(constant)
            else:
                yield from self.parts(constant)

    def _class(self, value: type) -> Iterator[bytes]:
        if not self._followed(value.__module__):
            yield f"{value.__module__}.{value.__qualname__} {_version(_package(value.__module__))}".encode()
            return
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
        """What is taken from a module: of the project's own each attribute by its code, of another its version."""
        if not self._followed(module.__name__):
            yield f"{module.__name__} {_version(_package(module.__name__))}".encode()
            return
        for name in attributes:
            found = vars(module).get(name)
            if isinstance(found, ModuleType):
                yield from self._module(found, attributes) if found is not module else ()
            elif name in vars(module):
                yield name.encode()
                yield from self.parts(found)

    def _import(self, name: str, attributes: tuple[str, ...]) -> Iterator[bytes]:
        """A module that is only imported when the function runs; one of the project's own is imported now."""
        if name not in sys.modules and _place(name):
            try:
                importlib.import_module(name)
            except Exception:  # noqa: BLE001 - the function's own import will tell
                yield name.encode()
                return
        if name in sys.modules and self._followed(name):
            yield from self._module(sys.modules[name], attributes)
        else:
            yield f"{name} {_version(_package(name))}".encode()

    def _container(self, value: Any) -> Iterator[bytes]:
        yield type(value).__name__.encode()
        if isinstance(value, dict | MappingProxyType):
            yield from self.parts(getattr(value, "default_factory", None))
            for key, member in value.items():
                yield from self.parts((key, member))
        elif isinstance(value, list):
            yield from self.parts(tuple(value))
        else:
            yield from sorted(b"".join(self.parts(member)) for member in sorted(value, key=repr))

    def _instance(self, value: Any) -> Iterator[bytes]:
        """A value that is no code: its content where that is plain, else its class, and what it says of itself."""
        own = self._followed(type(value).__module__)
        yield from self.parts(type(value))
        if isinstance(value, PurePath):
            yield b"" if value.is_absolute() else value.as_posix().encode()
        elif isinstance(value, re.Pattern):
            yield from self.parts((value.pattern, value.flags))
        elif own and hasattr(value, "__dict__"):
            yield from self.parts(tuple(sorted(vars(value).items())))
            yield from self.parts(_in_slots(value))
        elif (content := _content(value)) is not None:
            yield content
        elif (state := _state(value)) is not None:
            yield from self.parts(state)
        elif _package(type(value).__module__) not in sys.stdlib_module_names and " at 0x" not in str(value):
            yield str(value).encode()

    def _followed(self, module: str) -> bool:
        return _package(module) == self._home or _is_project(module)


class _Reach(NamedTuple):
    globals: tuple[str, ...]
    attributes: tuple[str, ...]
    imports: tuple[str, ...]
    words: tuple[str, ...]


@functools.cache
def _reach(code: CodeType) -> _Reach:
    """What a piece of code names: globals that it loads, attributes, and modules that it imports as it runs; and words
    among its constants, by which it may ask for an attribute or a module.
    """
    loaded: dict[str, None] = {}
    imported: dict[str, None] = {}
    words = {one: None for one in code.co_consts if isinstance(one, str) and _WORD.fullmatch(one)}
    names = dict.fromkeys((*code.co_names, *words))
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS"):
            loaded[instruction.argval] = None
        elif instruction.opname == "IMPORT_NAME":
            imported[instruction.argval] = None
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            inner = _reach(constant)
            loaded.update(dict.fromkeys(inner.globals))
            names.update(dict.fromkeys(inner.attributes))
            imported.update(dict.fromkeys(inner.imports))
            words.update(dict.fromkeys(inner.words))
    return _Reach(tuple(loaded), tuple(names), tuple(imported), tuple(words))


@functools.cache
def _instructions(code: CodeType) -> tuple[bytes, tuple[Any, ...]]:
    """What a piece of code tells the machine, and the constants that it loads, in order: a docstring is none of them.

    Constants do not count by their place: a docstring moves it.
    """
    told = bytearray()
    constants = []
    for instruction in dis.get_instructions(code):
        argument = instruction.arg or 0
        if instruction.opcode in dis.hasconst:
            constants.append(instruction.argval)
            argument = 0
        told += instruction.opcode.to_bytes(2, "big") + argument.to_bytes(4, "big")
    return bytes(told), tuple(constants)


def _in_slots(value: Any) -> tuple[tuple[str, Any], ...]:
    """What a value holds in slots, by name."""
    slots = [vars(kind).get("__slots__", ()) for kind in type(value).__mro__]
    names = {name for one in slots for name in ((one,) if isinstance(one, str) else one)} - {"__dict__", "__weakref__"}
    return tuple((name, getattr(value, name)) for name in sorted(names) if hasattr(value, name))


def _state(value: Any) -> tuple[Any, ...] | None:
    """What a value would be made of again, as pickle asks; None where it cannot tell, or is not the same twice."""
    if f"{type(value).__module__}.".startswith(_RESTLESS):
        return None
    try:
        with warnings.catch_warnings(action="ignore"):
            told = value.__reduce_ex__(2)
            return (
                (told,)
                if isinstance(told, str)
                else tuple(list(one) if isinstance(one, Iterator) else one for one in told)
            )
    except Exception:  # noqa: BLE001 - whatever its own method raises
        return None


def _content(value: Any) -> bytes | None:
    """The bytes of an array, a frame, a struct, …; None for what has none that are the same everywhere."""
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


def _package(module: str | None) -> str:
    return (module or "").partition(".")[0]


def _is_project(module: str) -> bool:
    """Whether a module is neither of the standard library nor of an installed package."""
    found = sys.modules.get(module)
    place = getattr(found, "__file__", None) or next(iter(getattr(found, "__path__", ())), None)
    return place is not None and _package(module) not in sys.stdlib_module_names and _is_own(place)


def _place(name: str) -> str | None:
    """Where the project keeps a module that is not imported yet; None for one that is not the project's."""
    if _package(name) in sys.stdlib_module_names:
        return None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    place = spec.origin or next(iter(spec.submodule_search_locations or ()), None)  # a folder may be a package, too
    return place if place and _is_own(place) else None


def _is_own(place: str) -> bool:
    return "site-packages" not in place and "dist-packages" not in place


@functools.cache
def _version(package: str) -> str:
    """The version of an installed package; that of Python itself is counted already."""
    if package in sys.stdlib_module_names:
        return ""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return " ".join(importlib.metadata.version(name) for name in sorted(set(_distributions().get(package, ()))))


@functools.cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()
