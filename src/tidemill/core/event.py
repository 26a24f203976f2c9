"""Event: something that happened."""

from datetime import datetime
from typing import Any

from msgspec import Struct


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened to `subject` at `time`, known here since `known_at`, because of `cause`.

    Two events with the same `dedupe_key` are one.
    """

    id: str
    kind: str
    environment: str
    subject: str
    time: datetime
    known_at: datetime
    dedupe_key: str
    cause: str = ""
    payload: dict[str, Any] = {}
