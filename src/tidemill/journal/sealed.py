"""Sealed files: JSON with a checksum of its bytes and of its name, so that damage is found when it is read."""

import hashlib
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from tidemill.errors import Corrupt

R = TypeVar("R", bound=msgspec.Struct)
_BEGIN = b'{"checksum":"'
_DIGITS = 64
_END = b'",'
_CURE = "`tidemill doctor --mend` writes it again from the ledger"


def seal(name: str, record: msgspec.Struct) -> bytes:
    """Return a record as JSON whose first key is a checksum; readers of earlier versions ignore the key."""
    content = msgspec.json.encode(record)
    return _BEGIN + _compute(name, content).encode() + _END + content[1:]


def unseal(file: Path, content: bytes, kind: type[R]) -> R:
    """Return the record in the bytes of a sealed file, verified.

    A file of an earlier version has no checksum: its keys must be those of the record.

    Raises
    ------
    Corrupt
        if the bytes are not those that were written under this name.
    """
    if not content:
        raise Corrupt(f"{file} is empty", _CURE)
    head = len(_BEGIN) + _DIGITS + len(_END)
    if content.startswith(_BEGIN):
        checksum, rest = content[len(_BEGIN) : len(_BEGIN) + _DIGITS], b"{" + content[head:]
        if content[len(_BEGIN) + _DIGITS : head] != _END or checksum != _compute(file.name, rest).encode():
            raise Corrupt(f"{file} does not have the bytes that were written", _CURE)
        content = rest
    try:
        keys = set(msgspec.json.decode(content, type=dict[str, Any]))
        record = msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Corrupt(f"{file} cannot be read: {error}", _CURE) from None
    if unknown := keys - set(kind.__struct_encode_fields__):
        raise Corrupt(f"{file} has an unknown key {min(unknown)!r}", _CURE)
    return record


def _compute(name: str, content: bytes) -> str:
    return hashlib.sha256(name.encode() + b"\n" + content).hexdigest()
