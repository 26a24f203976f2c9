"""Packed rows of the online store: values as MessagePack, with a checksum of the values, the entity and the time."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import msgspec

from tidemill.errors import Corrupt

# No value in MessagePack begins with this byte, so rows of earlier versions, without a checksum, are recognized.
_MARK = b"\xc1TM1"
_DIGITS = 8
_VALUES = msgspec.msgpack.Decoder(dict[str, Any])


def pack(view: str, entity: str, time: float, values: dict[str, Any]) -> bytes:
    """Return the values of an entity as bytes with a checksum."""
    content = msgspec.msgpack.encode(values)
    return _MARK + _compute(view, entity, time, content) + content


def unpack(view: str, entity: str, time: float, row: bytes) -> tuple[datetime, dict[str, Any]]:
    """Return the time and the values of a row.

    Raises
    ------
    Corrupt
        if they are not what was written for this entity.
    """
    head = len(_MARK) + _DIGITS
    try:
        if row[: len(_MARK)] != _MARK:
            return datetime.fromtimestamp(time, UTC), _VALUES.decode(row)
        content = row[head:]
        if row[len(_MARK) : head] == _compute(view, entity, time, content):
            return datetime.fromtimestamp(time, UTC), _VALUES.decode(content)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError, AttributeError, OSError):
        pass
    raise Corrupt(
        f"the values of entity {entity!r} of view {view!r} are damaged in the online store",
        "`tidemill doctor --mend` computes them again",
    )


def _compute(view: str, entity: str, time: float, content: bytes) -> bytes:
    digest = hashlib.sha256(f"{len(view)} {view} {entity}\n{time!r}\n".encode(errors="surrogatepass"))
    digest.update(content)
    return digest.digest()[:_DIGITS]
