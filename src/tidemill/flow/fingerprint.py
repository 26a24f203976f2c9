"""The digest of a step's code: its own, and that of all the functions, closures and globals that it reaches."""

import dis
import hashlib
import importlib.metadata
import inspect
import sys
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FunctionType, ModuleType
from typing import Any

import msgspec

from tidemill.core.pipeline import Pipeline, Step


def fingerprint(function: Callable[..., Any]) -> str:
    """The digest of what a function does, as far as code says it; it is the same in every process.

    Followed are functions and classes of the project and of its own modules; another package counts by its
    version. Names, comments, line numbers and where a file lies do not count.
    """
    return _digest(function)


@cache
def _digest(function: Callable[..., Any]) -> str:
    content = hashlib.sha256(f"python {sys.version_info.major}.{sys.version_info.minor}".encode())
    seen: set[int] = set()
    home = _package(getattr(function, "__module__", ""))
    for part in _parts(function, home, seen):
        content.update(part + b"\0")
    return content.hexdigest()


def _parts(value: Any, home: str, seen: set[int]) -> Iterator[bytes]:
    if isinstance(value, Step | Pipeline):
        value = value.function
    if isinstance(value, FunctionType | type):
        if id(value) in seen:
            return
        seen.add(id(value))
    if isinstance(value, FunctionType):
        yield from _function(value, home, seen)
    elif isinstance(value, type):
        yield from _class(value, home, seen)
    elif isinstance(value, ModuleType):
        yield _version(_package(value.__name__)).encode()
    else:
        yield _plain(value)


def _function(value: FunctionType, home: str, seen: set[int]) -> Iterator[bytes]:
    package = _package(value.__module__)
    if package != home and not _is_project(value.__module__):
        yield f"{value.__module__}.{value.__qualname__} {_version(package)}".encode()
        return
    yield from _code(value.__code__)
    for default in (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).items()):
        yield _plain(default)
    for cell in value.__closure__ or ():
        yield from _parts(cell.cell_contents, home, seen)
    for name in _globals(value.__code__):
        if name in value.__globals__:
            yield from _parts(value.__globals__[name], home, seen)


def _class(value: type, home: str, seen: set[int]) -> Iterator[bytes]:
    package = _package(value.__module__)
    yield f"{value.__module__}.{value.__qualname__}".encode()
    if package != home and not _is_project(value.__module__):
        yield _version(package).encode()
        return
    for name, member in sorted(vars(value).items()):
        member = getattr(member, "__func__", getattr(member, "fget", None) or member)
        if isinstance(member, FunctionType):
            yield name.encode()
            yield from _parts(member, home, seen)


def _code(code: CodeType) -> Iterator[bytes]:
    yield code.co_code
    yield " ".join((*code.co_names, *code.co_varnames, *code.co_freevars)).encode()
    for constant in code.co_consts[_docstring(code) :]:
        if isinstance(constant, CodeType):
            yield from _code(constant)
        else:
            yield _plain(constant)


def _docstring(code: CodeType) -> int:
    """How many leading constants are a docstring: it says nothing to the machine."""
    return 1 if code.co_consts and isinstance(code.co_consts[0], str) and code.co_flags & inspect.CO_NEWLOCALS else 0


def _globals(code: CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME") and isinstance(instruction.argval, str):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals(constant)


def _plain(value: Any) -> bytes:
    if isinstance(value, frozenset | set):
        return repr(sorted(map(repr, value))).encode()
    try:
        return msgspec.json.encode(value, order="deterministic")
    except (TypeError, ValueError, OverflowError):
        return f"{type(value).__module__}.{type(value).__qualname__}".encode()


def _package(module: str) -> str:
    return module.partition(".")[0]


@cache
def _is_project(module: str) -> bool:
    """Whether a module is neither of the standard library nor of an installed package."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or _package(module) in sys.stdlib_module_names:
        return False
    return "site-packages" not in file and "dist-packages" not in file


@cache
def _version(package: str) -> str:
    """A package and its version, as far as it tells one."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} {getattr(sys.modules.get(package), '__version__', '')}"
