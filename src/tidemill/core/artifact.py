"""Artifact: an immutable value, named by the hash of its content."""

from datetime import datetime
from typing import Any

from msgspec import Struct


class Artifact(Struct, frozen=True):
    """What the ledger knows of a value; its bytes are in the blobs under `digest`.

    `kind` is the codec that reads it back, `size` is in bytes, `summary` says what is inside (rows, columns, …).
    A `transient` artifact keeps no bytes: it is named by the key of the step that makes it again. The bytes of a
    `collected` one were deleted at that moment, as nothing needed them any more or a person's rows were in them: who
    needs it makes it again, and takes the mark off.
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
    """A page of HTML that a step made for people; it is shown where no script of it can reach anything else."""

    html: str


class Picture(Struct, frozen=True):
    """A picture that a step made for people, as the bytes of a PNG file."""

    png: bytes
