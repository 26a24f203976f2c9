"""Decisions: what a person or the policy did to which object, as an entry of the audit log."""

import unicodedata
from typing import Any

from msgspec import Struct

from tidemill.clock import Clock
from tidemill.core.audit import POLICY, AuditEntry
from tidemill.core.resources import Books, BooksReader
from tidemill.errors import InputError

_REPLACEMENT = "\ufffd"


class Decision(Struct, frozen=True, kw_only=True):
    """An action on an object, with the reason; `detail` has further facts, such as the token of the person."""

    action: str
    subject: str
    reason: str
    detail: dict[str, Any] = {}


def require_reason(reason: str, about: str = "the decision") -> str:
    """Return the reason of a decision, or of what else it is about, on one line, without blanks around it.

    >>> require_reason("  better\\non all slices ")
    'better on all slices'

    Raises
    ------
    InputError
        if it has no word, or has characters that are no text.
    """
    cure = 'write why, such as --reason "it is better"; it is kept'
    line = to_line(reason)
    if not any(character.isalnum() for character in line):
        raise InputError(f"{about} has no reason", cure)
    if _REPLACEMENT in line and _REPLACEMENT not in reason:
        raise InputError(f"the reason of {about} has control characters, or is not UTF-8", cure)
    return line


def to_line(text: str) -> str:
    """Return a text on one line; control characters, and bytes that are no UTF-8, are replaced."""
    return "".join(
        character if unicodedata.category(character) not in ("Cc", "Cs") else _REPLACEMENT
        for character in " ".join(text.split())
    )


def record_decision(books: Books, clock: Clock, decision: Decision, *, actor: str, environment: str) -> AuditEntry:
    """Write a decision to the audit log, inside the open transaction if there is one.

    Raises
    ------
    InputError
        if it has no reason.
    """
    with books.transaction(durable=True):
        return books.audit.add(
            AuditEntry(
                id=clock.mint(),
                actor=actor,
                action=decision.action,
                subject=decision.subject,
                time=clock.now(),
                reason=decision.reason,
                environment=environment,
                detail=decision.detail,
            )
        )


def has_person_decided(books: BooksReader, subject: str, after: str = "") -> bool:
    """Return whether a person, not the policy, decided on a subject, after the record with the id `after`."""
    return any(entry.actor != POLICY for entry in books.audit.find(subject=subject, after=after))
