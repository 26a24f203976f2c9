"""The digests of inputs that a pipeline states: the same only for equal values of the same types."""

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
from tidemill.flow.code.modules import is_own
from tidemill.flow.code.objects import plain_base
from tidemill.flow.fingerprint import fingerprint

_SIMPLE = (str, bytes, bytearray, int, float, bool, type(None), Decimal, UUID, timedelta, date, range)
_DEEPEST = 200


def digest_of_value(value: Any) -> str:
    """The digest of a value that a pipeline states; two values share one only if no step can tell them from each other.

    Types count, also of members and keys, and so does the order of a dict. Of a value whose class is the project's own
    the code of that class counts, too.

    Raises
    ------
    ConfigurationError
        for a value that holds itself, or something of which nothing certain is known.
    """
    content = hashlib.sha256()
    for part in _parts(value, 0):
        content.update(len(part).to_bytes(8, "big") + part)
    return content.hexdigest()


def _parts(value: Any, depth: int) -> Iterator[bytes]:
    kind = type(value)
    if kind in _SIMPLE:
        yield f"{kind.__name__} {value!r}".encode(errors="surrogatepass")
    elif kind in (list, tuple):
        yield f"{kind.__name__} {len(value)}".encode()
        for member in value:
            yield from _parts(member, _deeper(depth))
    elif kind is dict:
        yield f"dict {len(value)}".encode()
        for key, member in value.items():
            yield from _parts(key, _deeper(depth))
            yield from _parts(member, _deeper(depth))
    elif kind in (set, frozenset):
        yield f"{kind.__name__} {len(value)}".encode()
        yield from sorted(b"\0".join(_parts(member, _deeper(depth))) for member in value)
    else:
        yield from _class(kind)
        yield from _instance(value, depth)


def _instance(value: Any, depth: int) -> Iterator[bytes]:
    """A value of another class than the plain ones: by its fields, or by the plain value that it is besides."""
    if isinstance(value, datetime | time):
        yield f"{value.isoformat()} {value.fold}".encode()
        yield from _zone(value.tzinfo)
    elif isinstance(value, Enum):
        yield value.name.encode() if value.name else repr(value.value).encode()
    elif isinstance(value, msgspec.Struct):
        for name in value.__struct_fields__:
            yield name.encode()
            yield from _parts(getattr(value, name), _deeper(depth))
    elif dataclasses.is_dataclass(value) or hasattr(type(value), "__attrs_attrs__"):
        names = [one.name for one in getattr(value, "__attrs_attrs__", ())] or [
            one.name for one in dataclasses.fields(value)
        ]
        for name in names:
            yield name.encode()
            yield from _parts(getattr(value, name, None), _deeper(depth))
    elif isinstance(value, PurePath):
        yield str(value).encode(errors="surrogatepass")
    elif (plain := plain_base(value)) is not None:
        yield from _parts(plain, _deeper(depth))
    else:
        raise ConfigurationError(
            f"a {type(value).__module__}.{type(value).__qualname__} cannot be an input that the pipeline states: "
            "the cache cannot tell when it is another",
            "pass numbers, text, dates, lists, dicts, structs or dataclasses; or return it from a step",
        )


def _class(kind: type) -> Iterator[bytes]:
    yield f"{kind.__module__}.{kind.__qualname__}".encode()
    if is_own(kind.__module__):
        yield fingerprint(kind).encode()


def _zone(zone: tzinfo | None) -> Iterator[bytes]:
    yield b"no zone" if zone is None else f"{type(zone).__module__}.{type(zone).__qualname__} {zone!r}".encode()


def _deeper(depth: int) -> int:
    if depth > _DEEPEST:
        raise ConfigurationError("an input of a step holds itself, or is nested too deeply", "pass it flattened")
    return depth + 1
