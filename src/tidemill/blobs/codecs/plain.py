"""Plain data: numbers, lists, dicts, dates and structs as JSON, text as UTF-8, bytes as they are."""

import dataclasses
import math
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, BinaryIO, get_args
from uuid import UUID

import msgspec

from tidemill.errors import DataError

_SCALARS = frozenset(
    {int, float, bool, str, bytes, bytearray, datetime, date, time, timedelta, Decimal, UUID, type(None)}
)
# Text starts with a byte order mark: an artifact is identified by its bytes, and the text "1" is not the number 1.
_UTF8 = "utf-8-sig"


class JsonCodec:
    """Everything that msgspec writes as JSON, and the scalars of NumPy as numbers."""

    kind = "json"

    def accepts(self, value: Any) -> bool:
        return _is_plain(value)

    def write(self, value: Any, sink: BinaryIO) -> None:
        """Write a value; raise `DataError` for values that JSON cannot represent, such as NaN."""
        try:
            content = _encode(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"a {type(value).__name__} cannot be stored as JSON: {error}",
                "use only plain data in it (numbers, text, lists, dicts, structs), and return other values separately",
            ) from error
        if b"null" in content and not _survives_reading(value):
            raise _create_finite_error(value)
        sink.write(content)

    def read(self, source: BinaryIO, annotation: Any) -> Any:
        return msgspec.json.decode(source.read(), type=Any if annotation is object else annotation, dec_hook=_to_numpy)

    def summary(self, value: Any) -> dict[str, Any]:
        return {"type": type(value).__name__} | (
            {"items": len(value)} if isinstance(value, dict | list | tuple | set | frozenset) else {}
        )


class TextCodec:
    """Text as UTF-8 with a byte order mark."""

    kind = "text"

    def accepts(self, value: Any) -> bool:
        return type(value) is str

    def write(self, value: str, sink: BinaryIO) -> None:
        """Write text; raise `DataError` for half a surrogate pair."""
        try:
            sink.write(value.encode(_UTF8))
        except UnicodeEncodeError as error:
            raise DataError(f"a text is not valid Unicode: {error}", "decode it with errors='replace'") from error

    def read(self, source: BinaryIO, annotation: Any) -> Any:
        text = source.read().decode(_UTF8)
        return text if annotation in (str, Any) else msgspec.convert(text, annotation)

    def summary(self, value: str) -> dict[str, Any]:
        return {"characters": len(value)}


class BytesCodec:
    """Bytes, unchanged."""

    kind = "bytes"

    def accepts(self, value: Any) -> bool:
        return isinstance(value, bytes | bytearray)

    def write(self, value: bytes | bytearray, sink: BinaryIO) -> None:
        sink.write(value)

    def read(self, source: BinaryIO, annotation: Any) -> Any:
        content = source.read()
        if annotation in (bytes, Any) or bytes in get_args(annotation):
            return content
        # Plain data whose bytes were stored as bytes before has the kind of the bytes.
        return bytearray(content) if annotation is bytearray else msgspec.json.decode(content, type=annotation)

    def summary(self, value: bytes | bytearray) -> dict[str, Any]:
        return {"bytes": len(value)}


def _is_plain(value: Any) -> bool:
    """Return whether a value contains only plain data, by its types; the fields of a struct are not checked."""
    kind = type(value)
    if kind in _SCALARS:
        return True
    if isinstance(value, dict):
        return len(set(map(type, value))) <= 1 and _all_plain(value) and _all_plain(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return _all_plain(value)
    if isinstance(value, msgspec.Struct | Enum) or hasattr(kind, "__attrs_attrs__"):
        return True
    return dataclasses.is_dataclass(kind) or _is_numpy_scalar(value)


def _all_plain(values: Any) -> bool:
    kinds = set(map(type, values))
    return kinds <= _SCALARS or all(map(_is_plain, values))


def _is_numpy_scalar(value: Any) -> bool:
    """Return whether a value is a scalar of NumPy: a number, a boolean or a text."""
    if type(value).__module__ != "numpy":
        return False
    import numpy as np

    return isinstance(value, np.generic) and type(value.item()) in _SCALARS


def _encode(value: Any) -> bytes:
    try:
        return msgspec.json.encode(value, order="deterministic", enc_hook=_to_number)
    except TypeError as error:
        if "str keys" not in str(error):
            raise
    # msgspec does not order keys that are not text.
    plain = msgspec.to_builtins(value, str_keys=True, enc_hook=_to_number)
    return msgspec.json.encode(plain, order="deterministic")


def _to_number(value: Any) -> Any:
    if not _is_numpy_scalar(value):
        raise TypeError(f"it contains a {type(value).__module__}.{type(value).__qualname__}")
    number = value.item()
    if isinstance(number, float) and not math.isfinite(number):
        raise _create_finite_error(value)
    return number


def _to_numpy(kind: type, value: Any) -> Any:
    if kind.__module__ != "numpy":
        raise NotImplementedError(f"no codec reads a {kind.__module__}.{kind.__qualname__} from JSON")
    return kind(value)


def _create_finite_error(value: Any) -> DataError:
    return DataError(
        f"a {type(value).__name__} contains a number that is not finite, which JSON cannot represent",
        "use None instead, or remove it",
    )


def _survives_reading(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, dict):
        return all(map(_survives_reading, value.values()))
    if isinstance(value, list | tuple | set | frozenset):
        return all(map(_survives_reading, value))
    if isinstance(value, msgspec.Struct) or dataclasses.is_dataclass(value):
        try:
            msgspec.json.decode(_encode(value), type=type(value))
        except msgspec.ValidationError:
            return False
    return True
