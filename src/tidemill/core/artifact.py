"""Artifact: an immutable value, named by the hash of its content."""

from typing import Any

from msgspec import Struct


class Artifact(Struct, frozen=True):
    """What the ledger knows of a value; its bytes are in the blobs under `digest`.

    `kind` is the codec that reads it back, `size` is in bytes, `summary` says what is inside (rows, columns, …).
    A `transient` artifact keeps no bytes: it is named by the key of the step that makes it again.
    """

    id: str
    kind: str
    size: int
    summary: dict[str, Any] = {}
    transient: bool = False

    @property
    def digest(self) -> str:
        return self.id
