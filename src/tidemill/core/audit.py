"""AuditEntry: a decision of a person or of the policy, with the reason."""

from datetime import datetime
from typing import Any, Final

from msgspec import Struct

POLICY: Final = "policy"
"""The actor of a decision that the policy makes, by a verdict; no person can have this name."""


class AuditEntry(Struct, frozen=True, kw_only=True):
    """A person, or the policy (`actor`), did `action` to `subject` at `time`, for `reason`.

    Attributes
    ----------
    number
        Its position in the audit log, from 1; the ledger sets it.
    previous
        The hash of the entry before it; empty for the first one.
    hash
        The SHA-256 of all other fields.
    """

    id: str
    actor: str
    action: str
    subject: str
    time: datetime
    reason: str
    environment: str
    detail: dict[str, Any] = {}
    number: int = 0
    previous: str = ""
    hash: str = ""
