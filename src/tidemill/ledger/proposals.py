"""Proposals: a program asks for a run or a promotion, and a person decides; a proposal changes nothing itself."""

import unicodedata
from datetime import datetime, timedelta
from typing import Any

from msgspec import Struct, to_builtins

from tidemill.clock import Clock, uuid7
from tidemill.core.event import Event, ProposalPayload
from tidemill.core.resources import Books, BooksReader
from tidemill.errors import InputError
from tidemill.ledger.decisions import has_person_decided, require_reason
from tidemill.ledger.events import record_event

PROPOSAL = "proposal"
DECLINED = "declined"
_LONGEST_REASON = 500
_MAX_OPEN = 20
_REACH = timedelta(days=90)
_MAX_RECORDS = 200


class Proposal(Struct, frozen=True, kw_only=True):
    """An open proposal: what is proposed, by whom, why, and the command with which a person accepts it."""

    id: str
    kind: str
    subject: str
    time: datetime
    by: str
    reason: str
    command: str
    environment: str


def write_proposal(
    books: Books, clock: Clock, payload: ProposalPayload, subject: str, environment: str
) -> tuple[Proposal, bool]:
    """Write a proposal and return it, and whether it is new: an equal open proposal is returned instead.

    Raises
    ------
    InputError
        if it has no reason, a text has control characters or is too long, or too many proposals are open.
    """
    for name, text in (("reason", payload.reason), ("proposer", payload.by), ("command", payload.command)):
        _check_text(name, text)
    require_reason(payload.reason, "the proposal")
    with books.transaction(durable=True):
        known = list_open_proposals(books, environment, clock.now())
        for proposal in known:
            if (proposal.kind, proposal.subject, proposal.command) == (payload.proposal, subject, payload.command):
                return proposal, False
        if len(known) >= _MAX_OPEN:
            raise InputError(
                f"{len(known)} proposals are open already", "wait until people have decided: `tidemill proposals list`"
            )
        event = record_event(books, clock, PROPOSAL, subject, environment=environment, payload=to_builtins(payload))
    return _to_proposal(event), True


def list_open_proposals(books: BooksReader, environment: str, now: datetime) -> list[Proposal]:
    """Return the proposals of the last 90 days that nobody has accepted or declined, the newest first."""
    scope: dict[str, Any] = {"kind": PROPOSAL, "environment": environment, "after": uuid7(now - _REACH, 0)}
    events = books.events.find(newest=True, limit=_MAX_RECORDS, **scope)
    return [_to_proposal(event) for event in events if not _is_settled(books, event)]


def name_decision(identifier: str) -> str:
    """Return the subject of the audit entries about a proposal."""
    return f"{PROPOSAL}/{identifier}"


def _is_settled(books: BooksReader, event: Event) -> bool:
    """Return whether a person declined a proposal, or what it proposes has happened since."""
    payload, environment = event.read(ProposalPayload), event.environment
    if has_person_decided(books, name_decision(event.id)):
        return True
    if payload.proposal == "run":
        columns = {"pipeline": payload.pipeline, "environment": environment}
        columns |= {"model": payload.model} if payload.model else {}
        return bool(books.runs.find(limit=1, after=event.id, **columns))  # type: ignore[arg-type]  # names of columns
    if payload.proposal == "promotion":
        routed = books.routes.find(environment=environment, linked=f"release:{event.subject}", after=event.id, limit=1)
        return bool(routed) or has_person_decided(books, event.subject, event.id)
    deployed = books.deployments.find(build=payload.build, environment=payload.to, after=event.id, limit=1)
    return bool(deployed)


def _to_proposal(event: Event) -> Proposal:
    payload = event.read(ProposalPayload)
    return Proposal(
        id=event.id,
        kind=payload.proposal,
        subject=event.subject,
        time=event.time,
        by=payload.by,
        reason=payload.reason,
        command=payload.command,
        environment=event.environment,
    )


def _check_text(name: str, text: str) -> None:
    """Refuse text that could change a terminal, or hide other text."""
    if len(text) > _LONGEST_REASON:
        raise InputError(f"the {name} has {len(text):,} characters", f"use at most {_LONGEST_REASON}")
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Co", "Cs") for letter in text):
        raise InputError(f"the {name} contains control characters", "write one line of plain text")
