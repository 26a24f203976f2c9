"""The types that can never be stored, and what to return instead; the same rules check values and annotations."""

import collections.abc
import io
from dataclasses import is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from inspect import isabstract
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType, NoneType, UnionType
from typing import IO, Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from msgspec import Struct

from tidemill import plugin


class Refusal(NamedTuple):
    """A description of a type that cannot be stored, and what to return instead."""

    what: str
    cure: str


_LIBRARIES = {
    ("polars", "LazyFrame"): Refusal("a lazy frame, which is only a plan", "return its rows: .collect()"),
    ("polars", "Series"): Refusal("a Polars Series", "return a frame: .to_frame()"),
    ("pyarrow", "RecordBatchReader"): Refusal("a stream of rows", "return its rows: .read_all()"),
    ("duckdb", "DuckDBPyRelation"): Refusal("a relation, which is only a plan", "return its rows: .pl() or .arrow()"),
    ("lightgbm", "Dataset"): Refusal("a Dataset of LightGBM", "return the frame or the array that it contains"),
}
_PLAIN = (
    *(int, float, str, bytes, bytearray, NoneType, list, tuple, set, frozenset, dict),
    *(date, time, timedelta, Decimal, UUID, Enum, Struct),
)
_SUPPORTED_LIBRARIES = ("polars", "pandas", "pyarrow", "numpy", "plotly", "matplotlib")
_FRAMES = {
    *(("polars", "DataFrame"), ("pandas", "DataFrame"), ("pandas", "Series"), ("pyarrow", "Table")),
    ("numpy", "ndarray"),
}
_ESTIMATOR = "package it as a Model: tidemill.models.flavors.sklearn.pack(…) or .lightgbm.pack(…)"
_TYPES: tuple[tuple[tuple[type, ...], Refusal], ...] = (
    ((io.IOBase, IO), Refusal("an open file", "return its content: .read()")),
    (
        (collections.abc.Generator, collections.abc.AsyncGenerator),
        Refusal("a generator, which can be read only once", "return a list: list(…)"),
    ),
    (
        (collections.abc.Coroutine, collections.abc.Awaitable),
        Refusal("a coroutine", "make the step a plain function: def, not async def"),
    ),
    (
        (collections.abc.Iterator, collections.abc.AsyncIterator),
        Refusal("an iterator, which can be read only once", "return a list: list(…)"),
    ),
    ((range,), Refusal("a range", "return a list: list(…)")),
    (
        (FunctionType, BuiltinFunctionType, MethodType),
        Refusal("a function", "return what it computes, or import it in the step that uses it"),
    ),
    ((ModuleType,), Refusal("a module", "import it in the step that uses it")),
    ((type,), Refusal("a class", "return its name, or import it in the step that uses it")),
    (
        (PurePath,),
        Refusal("a path, whose file may change before another run", "return the content of the file, or str(path)"),
    ),
)


def find_refusal(kind: type) -> Refusal | None:
    """Return why no codec can ever store values of a type, or None if one might."""
    library = kind.__module__.partition(".")[0]
    library_refusal = _LIBRARIES.get((library, kind.__name__))
    if library_refusal:
        return library_refusal
    if library == "lightgbm" or any(base.__module__.startswith("sklearn.") for base in kind.__mro__):
        return Refusal(f"an estimator ({kind.__name__}), which is never pickled", _ESTIMATOR)
    for bases, refusal in _TYPES:
        if issubclass(kind, bases):
            return refusal
    if kind.__module__ == "_thread":
        return Refusal("a lock, which works only in its process", "create it in the step that uses it")
    return None


def explain_refusal(annotation: Any) -> str:
    """Return why no value of a return annotation can be stored, with the cure; "" if one might."""
    reason = _explain(annotation)
    # A plug-in codec might accept any type, which only a value can show.
    return "" if reason and any(plugin.list_names("codecs")) else reason


def _explain(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _explain(arguments[0])
    if origin in (Union, UnionType):
        reasons = [_explain(argument) for argument in arguments if argument is not NoneType]
        return reasons[0] if reasons and all(reasons) else ""
    kind = origin or annotation
    if kind is collections.abc.Callable:
        kind = FunctionType
    if kind is Any or not isinstance(kind, type):
        return ""
    refusal = find_refusal(kind) or (_find_frame_field(kind) if _may_be_stored(kind) else _refuse_unknown(kind))
    if refusal:
        return f"{refusal.what}: {refusal.cure}"
    members = arguments if issubclass(kind, collections.abc.Collection) else ()
    return next((reason for reason in map(_explain, members) if reason), "")


def _may_be_stored(kind: type) -> bool:
    """Return whether a codec may accept values of a type; always true for abstract types."""
    return (
        issubclass(kind, _PLAIN)
        or kind is object
        or kind.__module__.partition(".")[0] in _SUPPORTED_LIBRARIES
        or isabstract(kind)
        or getattr(kind, "_is_protocol", False)
        or is_dataclass(kind)
        or hasattr(kind, "__attrs_attrs__")
    )


def _find_frame_field(kind: type) -> Refusal | None:
    """Return why a struct with a frame or an array cannot be stored: structs must be plain data."""
    if not is_dataclass(kind) and not issubclass(kind, Struct):
        return None
    try:
        hints = get_type_hints(kind)
    except (NameError, TypeError):
        return None
    for name, hint in hints.items():
        for part in (hint, *get_args(hint)):
            type_name = (getattr(part, "__module__", "").partition(".")[0], getattr(part, "__name__", ""))
            if type_name in _FRAMES:
                return Refusal(
                    f"a {kind.__name__}, which contains a {'.'.join(type_name)} as {name!r}",
                    "return its fields separately, in a tuple or a dict",
                )
    return None


def _refuse_unknown(kind: type) -> Refusal:
    return Refusal(
        f"a {kind.__module__}.{kind.__qualname__}, which no codec supports",
        "convert it to a dataclass or a msgspec Struct, or register a codec under the entry point tidemill.codecs",
    )
