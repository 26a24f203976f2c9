"""AuditEntry: a decision of a person, with the reason."""

from datetime import datetime
from typing import Any

from msgspec import Struct


class AuditEntry(Struct, frozen=True, kw_only=True):
    """A person (`actor`) did `action` to `subject` at `time`, for `reason`."""

    id: str
    actor: str
    action: str
    subject: str
    time: datetime
    reason: str
    environment: str
    detail: dict[str, Any] = {}
