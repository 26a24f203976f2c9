"""Copies the values for each step, so that no step sees the changes of another step."""

import copy
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

_IMMUTABLE = (bool, int, float, complex, str, bytes, type(None), date, datetime, time, timedelta, Decimal, UUID)
_FRAMES = {("polars", "DataFrame"), ("polars", "Series"), ("polars", "LazyFrame")}


class NotCopied(Exception):
    """A value cannot be copied; it must be computed again for another step."""


def copy_value(value: Any) -> Any:
    """Return a copy of a value that shares no mutable part with it.

    Immutable values are returned as they are. Frames of Polars share their columns, which Polars copies on write.
    Lists, dicts and structs are copied member by member, all other values by `copy.deepcopy`.

    Raises
    ------
    NotCopied
        if a value cannot be copied.
    """
    kind = type(value)
    if kind in _IMMUTABLE:
        return value
    if (kind.__module__.partition(".")[0], kind.__name__) in _FRAMES:
        return value.clone()
    if kind in (tuple, frozenset):
        copied = tuple(map(copy_value, value))
        return value if all(new is old for new, old in zip(copied, value, strict=True)) else kind(copied)
    if kind in (list, set):
        return kind(map(copy_value, value))
    if kind is dict:
        return {key: copy_value(member) for key, member in value.items()}
    if isinstance(value, msgspec.Struct):
        return _copy_struct(value)
    try:
        return copy.deepcopy(value)
    except Exception as error:
        raise NotCopied(f"a {kind.__qualname__} cannot be copied: {error}") from error


def is_cheap(value: Any) -> bool:
    """Return whether copying a value is much faster than decoding it from bytes."""
    if type(value) in _IMMUTABLE or type(value).__module__.partition(".")[0] == "polars":
        return True
    return isinstance(value, msgspec.Struct) and value.__struct_config__.frozen


def _copy_struct(value: msgspec.Struct) -> msgspec.Struct:
    """Return a copy of a struct; a frozen one with immutable fields is returned as it is."""
    fields = {name: getattr(value, name) for name in value.__struct_fields__}
    copied = {name: copy_value(field) for name, field in fields.items()}
    if value.__struct_config__.frozen and all(copied[name] is field for name, field in fields.items()):
        return value
    result = copy.copy(value)
    for name, field in copied.items():
        msgspec.structs.force_setattr(result, name, field)
    return result
