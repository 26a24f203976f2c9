"""Computes the digests of the values that a pipeline passes to steps."""

import dataclasses
import hashlib
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec

from tidemill.errors import ConfigurationError
from tidemill.flow.code.modules import is_project_module
from tidemill.flow.code.objects import to_plain_value
from tidemill.flow.fingerprint import fingerprint

_SIMPLE = (str, bytes, bytearray, int, float, bool, type(None), Decimal, UUID, timedelta, date, range)
_MAX_DEPTH = 200


def digest_value(value: Any) -> str:
    """Return the digest of a value; different values have different digests.

    The digest contains the types of values, members and keys, and the order of a dict. If the class of a value belongs
    to the project, the digest also contains the code of the class.

    Raises
    ------
    ConfigurationError
        if the value contains itself, or a value whose content is not accessible.
    """
    content = hashlib.sha256()
    for part in _iterate_parts(value, 0):
        content.update(len(part).to_bytes(8, "big") + part)
    return content.hexdigest()


def _iterate_parts(value: Any, depth: int) -> Iterator[bytes]:
    kind = type(value)
    if kind in _SIMPLE:
        yield f"{kind.__name__} {value!r}".encode(errors="surrogatepass")
    elif kind in (list, tuple):
        yield f"{kind.__name__} {len(value)}".encode()
        for member in value:
            yield from _iterate_parts(member, _check_depth(depth))
    elif kind is dict:
        yield f"dict {len(value)}".encode()
        for key, member in value.items():
            yield from _iterate_parts(key, _check_depth(depth))
            yield from _iterate_parts(member, _check_depth(depth))
    elif kind in (set, frozenset):
        yield f"{kind.__name__} {len(value)}".encode()
        yield from sorted(b"\0".join(_iterate_parts(member, _check_depth(depth))) for member in value)
    else:
        yield from _iterate_class_parts(kind)
        yield from _iterate_instance_parts(value, depth)


def _iterate_instance_parts(value: Any, depth: int) -> Iterator[bytes]:
    """Yield the parts of a value of another class: its fields, or its plain value."""
    if isinstance(value, datetime | time):
        yield f"{value.isoformat()} {value.fold}".encode()
        yield from _iterate_zone_parts(value.tzinfo)
    elif isinstance(value, Enum):
        yield value.name.encode() if value.name else repr(value.value).encode()
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield name.encode()
            yield from _iterate_parts(getattr(value, name), _check_depth(depth))
    elif dataclasses.is_dataclass(value) or hasattr(type(value), "__attrs_attrs__"):
        names = [field.name for field in getattr(value, "__attrs_attrs__", ())] or [
            field.name for field in dataclasses.fields(value)
        ]
        for name in names:
            yield name.encode()
            yield from _iterate_parts(getattr(value, name, None), _check_depth(depth))
    elif isinstance(value, PurePath):
        yield str(value).encode(errors="surrogatepass")
    elif (plain := to_plain_value(value)) is not None:
        yield from _iterate_parts(plain, _check_depth(depth))
    else:
        raise ConfigurationError(
            f"a pipeline cannot pass a {type(value).__module__}.{type(value).__qualname__} to a step: "
            "the cache cannot detect when it changes",
            "pass numbers, text, dates, lists, dicts, structs or dataclasses; or return it from a step",
        )


def _iterate_class_parts(kind: type) -> Iterator[bytes]:
    yield f"{kind.__module__}.{kind.__qualname__}".encode()
    if is_project_module(kind.__module__):
        yield fingerprint(kind).encode()


def _iterate_zone_parts(zone: tzinfo | None) -> Iterator[bytes]:
    yield b"no zone" if zone is None else f"{type(zone).__module__}.{type(zone).__qualname__} {zone!r}".encode()


def _check_depth(depth: int) -> int:
    if depth > _MAX_DEPTH:
        raise ConfigurationError("an input of a step contains itself, or is nested too deeply", "flatten it")
    return depth + 1
