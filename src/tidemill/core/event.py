"""Event: something that happened."""

from datetime import datetime
from typing import Any, Literal, TypeVar

from msgspec import Struct, convert
from msgspec.structs import fields

P = TypeVar("P", bound=Struct)


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

    def read(self, kind: type[P]) -> P:
        """The payload as one of the types below; keys that the type does not have are left out."""
        return convert(self.payload, kind)

    @property
    def about(self) -> "Announcement":
        """The part of the payload that events of any kind may have, also those of a project's own steps."""
        known = {name: str(self.payload.get(name, "")) for name in ("model", "reason")}
        return Announcement(**known)


class Announcement(Struct, frozen=True, kw_only=True):
    """What the payload of any kind of event may have: the model that it is about, and a text for display."""

    model: str = ""
    reason: str = ""


class DataPayload(Struct, frozen=True, kw_only=True):
    """A new batch of a source."""

    batch: str
    path: str


class RowsPayload(Struct, frozen=True, kw_only=True):
    """New rows in a table, as of a version."""

    version: int


class VerdictPayload(Struct, frozen=True, kw_only=True):
    """A verdict that calls for an action."""

    check: str
    outcome: str
    action: str
    reason: str
    model: str
    run: str
    step: str


class RunPayload(Struct, frozen=True, kw_only=True):
    """A run that ended."""

    state: str
    pipeline: str
    model: str
    error: str


class JobPayload(Struct, frozen=True, kw_only=True):
    """A job that failed."""

    state: str
    pipeline: str
    model: str
    reason: str
    trigger: str
    run: str


class CodePayload(Struct, frozen=True, kw_only=True):
    """The digest of the project's code; the code of `before` is not the same."""

    digest: str
    before: str = ""


class DaemonPayload(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A daemon that watches, or ended; `looked` is the time up to which it has read causes."""

    state: Literal["watching", "ended"]
    looked: datetime | None = None


class AlertPayload(Struct, frozen=True, kw_only=True):
    """A notification that was sent to these addresses (each by its scheme and digest)."""

    state: Literal["bad", "well"]
    reason: str
    to: list[str]


_PAYLOADS: dict[str, type[Struct]] = {
    "data": DataPayload,
    "rows": RowsPayload,
    "verdict": VerdictPayload,
    "run": RunPayload,
    "job": JobPayload,
}


def conditions_of(kind: str) -> tuple[str, ...]:
    """The names that a trigger on this kind of event can set conditions on; empty where it is not known."""
    payload = _PAYLOADS.get(kind)
    return ("subject", *(one.name for one in fields(payload))) if payload else ()
