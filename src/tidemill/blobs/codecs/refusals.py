"""What can never be kept, and what to return in its place; a value and an annotation are judged by the same rules."""

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
    """What something is, and what to return in its place."""

    what: str
    cure: str


_LIBRARIES = {
    ("polars", "LazyFrame"): Refusal("a lazy frame, which is only a plan", "return its rows: .collect()"),
    ("polars", "Series"): Refusal("a Polars Series", "return a frame: .to_frame()"),
    ("pyarrow", "RecordBatchReader"): Refusal("a stream of rows", "return its rows: .read_all()"),
    ("duckdb", "DuckDBPyRelation"): Refusal("a relation, which is only a plan", "return its rows: .pl() or .arrow()"),
    ("lightgbm", "Dataset"): Refusal("a Dataset of LightGBM", "return the frame or the array that it is made of"),
}
_PLAIN = (
    *(int, float, str, bytes, bytearray, NoneType, list, tuple, set, frozenset, dict),
    *(date, time, timedelta, Decimal, UUID, Enum, Struct),
)
_CODED = ("polars", "pandas", "pyarrow", "numpy", "plotly", "matplotlib")
_FRAMES = {
    *(("polars", "DataFrame"), ("pandas", "DataFrame"), ("pandas", "Series"), ("pyarrow", "Table")),
    ("numpy", "ndarray"),
}
_ESTIMATOR = "package it as a Model: tidemill.models.flavors.sklearn.pack(…) or .lightgbm.pack(…)"
_TYPES: tuple[tuple[tuple[type, ...], Refusal], ...] = (
    ((io.IOBase, IO), Refusal("an open file", "return what it holds: .read()")),
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
    ((PurePath,), Refusal("a path, which another run may find changed", "return what the file holds, or str(path)")),
)


def find_refusal(kind: type) -> Refusal | None:
    """Why no codec could ever keep values of a type; nothing where one may."""
    library = kind.__module__.partition(".")[0]
    known = _LIBRARIES.get((library, kind.__name__))
    if known:
        return known
    if library == "lightgbm" or any(base.__module__.startswith("sklearn.") for base in kind.__mro__):
        return Refusal(f"an estimator ({kind.__name__}), which is never pickled", _ESTIMATOR)
    for bases, refusal in _TYPES:
        if issubclass(kind, bases):
            return refusal
    if kind.__module__ == "_thread":
        return Refusal("a lock, which is of its process only", "make it where it is used")
    return None


def explain_refusal(annotation: Any) -> str:
    """Why nothing that a return annotation promises could be kept, with the cure; empty where something may be."""
    refused = _refused(annotation)
    # A plug might take anything: that is seen when there is a value.
    return "" if refused and any(plugin.names("codecs")) else refused


def _refused(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _refused(arguments[0])
    if origin in (Union, UnionType):
        reasons = [_refused(one) for one in arguments if one is not NoneType]
        return reasons[0] if reasons and all(reasons) else ""
    kind = origin or annotation
    if kind is collections.abc.Callable:
        kind = FunctionType
    if kind is Any or not isinstance(kind, type):
        return ""
    refusal = find_refusal(kind) or (_frame_inside(kind) if _may_be_kept(kind) else _strange(kind))
    if refusal:
        return f"{refusal.what}: {refusal.cure}"
    held = arguments if issubclass(kind, collections.abc.Collection) else ()
    return next((why for why in map(_refused, held) if why), "")


def _may_be_kept(kind: type) -> bool:
    """Whether values of a type may find a codec; what is abstract says too little."""
    return (
        issubclass(kind, _PLAIN)
        or kind is object
        or kind.__module__.partition(".")[0] in _CODED
        or isabstract(kind)
        or getattr(kind, "_is_protocol", False)
        or is_dataclass(kind)
        or hasattr(kind, "__attrs_attrs__")
    )


def _frame_inside(kind: type) -> Refusal | None:
    """Why a struct cannot be kept that promises to hold a frame or an array: structs are plain data."""
    if not is_dataclass(kind) and not issubclass(kind, Struct):
        return None
    try:
        hints = get_type_hints(kind)
    except (NameError, TypeError):
        return None
    for name, hint in hints.items():
        for part in (hint, *get_args(hint)):
            place = (getattr(part, "__module__", "").partition(".")[0], getattr(part, "__name__", ""))
            if place in _FRAMES:
                return Refusal(
                    f"a {kind.__name__}, which holds a {'.'.join(place)} as {name!r}",
                    "return what it holds as values of their own: a tuple or a dict",
                )
    return None


def _strange(kind: type) -> Refusal:
    return Refusal(
        f"a {kind.__module__}.{kind.__qualname__}, which no codec knows",
        "make it a dataclass or a msgspec Struct, or register a codec under the entry point tidemill.codecs",
    )
