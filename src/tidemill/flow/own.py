"""Gives each step values of its own: what one step changes in place, no other sees."""

import copy
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec

_UNCHANGING = (bool, int, float, complex, str, bytes, type(None), date, datetime, time, timedelta, Decimal, UUID)
_FRAMES = {("polars", "DataFrame"), ("polars", "Series"), ("polars", "LazyFrame")}


class NotCopied(Exception):
    """A value that cannot be copied: whoever needs it again has to make it again."""


def own(value: Any) -> Any:
    """A value that shares nothing that can be changed with another.

    What cannot be changed is returned as it is. Frames of Polars share their columns, which are copied when one is
    written to; lists, dicts and structs are made anew around what they contain. All else is copied whole.

    Raises
    ------
    NotCopied
        where a value cannot be copied.
    """
    kind = type(value)
    if kind in _UNCHANGING:
        return value
    if (kind.__module__.partition(".")[0], kind.__name__) in _FRAMES:
        return value.clone()
    if kind in (tuple, frozenset):
        owned = tuple(map(own, value))
        return value if all(new is old for new, old in zip(owned, value, strict=True)) else kind(owned)
    if kind in (list, set):
        return kind(map(own, value))
    if kind is dict:
        return {key: own(member) for key, member in value.items()}
    if isinstance(value, msgspec.Struct):
        return _own_struct(value)
    try:
        return copy.deepcopy(value)
    except Exception as refused:
        raise NotCopied(f"a {kind.__qualname__} cannot be copied: {refused}") from refused


def is_cheap(value: Any) -> bool:
    """Whether a value is copied in much less time than it is read from its bytes."""
    if type(value) in _UNCHANGING or type(value).__module__.partition(".")[0] == "polars":
        return True
    return isinstance(value, msgspec.Struct) and value.__struct_config__.frozen


def _own_struct(value: msgspec.Struct) -> msgspec.Struct:
    """A struct with fields of its own; a frozen one whose fields cannot be changed stays as it is."""
    fields = {name: getattr(value, name) for name in value.__struct_fields__}
    owned = {name: own(field) for name, field in fields.items()}
    if value.__struct_config__.frozen and all(owned[name] is field for name, field in fields.items()):
        return value
    made = copy.copy(value)
    for name, field in owned.items():
        msgspec.structs.force_setattr(made, name, field)
    return made
