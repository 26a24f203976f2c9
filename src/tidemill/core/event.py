"""Event: something that happened."""

from datetime import datetime
from typing import Any, Literal, TypeVar

from msgspec import Struct, convert
from msgspec.structs import fields

P = TypeVar("P", bound=Struct)


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened to `subject` at `time` because of `cause`; Tidemill noticed it at `known_at`.

    Of several events with the same `dedupe_key` only the first is stored.
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
        """Return the payload as one of the types below, without the keys that the type does not have."""
        return convert(self.payload, kind)

    @property
    def announcement(self) -> "Announcement":
        """Return the part of the payload that events of any kind can have, including events of a project's steps."""
        known = {name: str(self.payload.get(name, "")) for name in ("model", "reason")}
        return Announcement(**known)


class Announcement(Struct, frozen=True, kw_only=True):
    """The keys that the payload of any kind of event can have: the model, and a text for display."""

    model: str = ""
    reason: str = ""


class DataPayload(Struct, frozen=True, kw_only=True):
    """A new batch of a source."""

    batch: str
    path: str


class RowsPayload(Struct, frozen=True, kw_only=True):
    """New rows in a table: the version that added them."""

    version: int


class RowCountPayload(Struct, frozen=True, kw_only=True):
    """Predictions or labels of a model that arrived since the last event of the same trigger, `until` that time."""

    model: str
    trigger: str
    rows: int
    until: datetime


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
    """A run that is no longer running, in the state `state`."""

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
    """A change of the project's code: the new digest, and the digest `before` the change."""

    digest: str
    before: str = ""


class ProposalPayload(Struct, frozen=True, kw_only=True):
    """A proposal of a run, of the promotion of a release, or of the deployment of a build `to` an environment.

    `command` is the command with which a person accepts it.
    """

    proposal: Literal["run", "promotion", "deployment"]
    by: str
    reason: str
    command: str
    model: str = ""
    pipeline: str = ""
    params: dict[str, str] = {}
    build: str = ""
    to: str = ""


class DaemonPayload(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A daemon that started (`watching`) or stopped (`ended`); it has read the causes up to the time `looked`."""

    state: Literal["watching", "ended"]
    looked: datetime | None = None


class PushPayload(Struct, frozen=True, kw_only=True):
    """A new commit of a watched branch, in the repository `remote`."""

    commit: str
    branch: str
    remote: str = ""
    pusher: str = ""


class BuildPayload(Struct, frozen=True, kw_only=True):
    """A build that CI made, or a commit that it refused."""

    build: str
    number: int
    commit: str
    branch: str
    state: str
    reason: str = ""


BUILD_WAITING = "build.waiting"


class BuildWaitingPayload(Struct, frozen=True, kw_only=True):
    """A build that an environment takes as soon as enough people have approved it."""

    build: str
    number: int
    environment: str
    reason: str


class DeploymentPayload(Struct, frozen=True, kw_only=True):
    """A build that serves an environment now, and its address."""

    build: str
    number: int
    commit: str
    address: str


class AlertPayload(Struct, frozen=True, kw_only=True):
    """A notification that was sent to the addresses `to`, each as its scheme and a digest."""

    state: Literal["bad", "well"]
    reason: str
    to: list[str]


_PAYLOADS: dict[str, type[Struct]] = {
    "data": DataPayload,
    "rows": RowsPayload,
    "predictions": RowCountPayload,
    "labels": RowCountPayload,
    "verdict": VerdictPayload,
    "run": RunPayload,
    "job": JobPayload,
    "push": PushPayload,
    "build": BuildPayload,
}


def list_conditions(kind: str) -> tuple[str, ...]:
    """Return the names that a trigger on this kind of event can have conditions on; none for an unknown kind."""
    payload = _PAYLOADS.get(kind)
    return ("subject", *(field.name for field in fields(payload))) if payload else ()
