"""Artifact: an immutable value, named by the hash of its content."""

from datetime import datetime
from typing import Any

from msgspec import Struct


class Artifact(Struct, frozen=True):
    """The ledger's record of a value; its bytes are in the blob store under `digest`.

    `kind` is the codec that reads the bytes, `size` is in bytes, `summary` describes the content (rows, columns, …).
    A `transient` artifact has no stored bytes: its id is the key of the step that computes it again. The bytes of a
    `collected` artifact were deleted at that time, because no run needed them or because they contained rows of an
    erased person. A step that needs the artifact computes it again and resets `collected`.
    """

    id: str
    kind: str
    size: int
    summary: dict[str, Any] = {}
    transient: bool = False
    collected: datetime | None = None

    @property
    def digest(self) -> str:
        return self.id


class Report(Struct, frozen=True):
    """A page of HTML that a step returns for people. It is shown in a sandbox, without access to other pages."""

    html: str


class Picture(Struct, frozen=True):
    """A picture that a step returns for people, as the bytes of a PNG file."""

    png: bytes
