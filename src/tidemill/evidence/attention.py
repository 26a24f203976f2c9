"""What needs a person in an environment: one list for the overview page, `tidemill status` and `tidemill up`."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from tidemill.core.event import BUILD_WAITING, AlertPayload, BuildWaitingPayload, Event
from tidemill.core.resources import BooksReader
from tidemill.evidence.daemon_status import read_daemon_status
from tidemill.ledger.batches import BatchRecord, list_stopped
from tidemill.ledger.decisions import has_person_decided
from tidemill.ledger.proposals import Proposal, list_open_proposals

APPROVAL_TEXTS = {"approval.needed": "waits for an approval", "model.frozen": "waits: its model is frozen"}
CERTIFICATES = ("certificate", "certificate of the pages")
"""The subjects of alerts about the certificates of the service and of the pages."""
_WAITING_KINDS = (*APPROVAL_TEXTS, "watch.missing")
_BAD_STATES = ("failed", "stopped", "interrupted")
_MAX_EVENTS = 10


class ActionItem(Struct, frozen=True, kw_only=True):
    """A problem that a person must solve: what, why, and the command or change that solves it.

    `subject` is the id of the record of this `kind` that the item is about.
    """

    kind: Literal["batch", "release", "build", "run", "daemon", "proposal"]
    subject: str
    what: str
    why: str
    cure: str


def list_actions(books: BooksReader, environment: str, now: datetime) -> list[ActionItem]:
    """Return everything that needs a person, the most urgent first."""
    return [
        *_find_silent_daemon(books, environment, now),
        *_find_bad_certificates(books, environment),
        *(_describe_batch(record) for record in list_stopped(books, environment)),
        *_find_waiting_releases(books, environment),
        *_find_waiting_builds(books, environment),
        *_find_failed_runs(books, environment),
        *(_describe_proposal(proposal) for proposal in list_open_proposals(books, environment, now)),
    ]


def _find_silent_daemon(books: BooksReader, environment: str, now: datetime) -> list[ActionItem]:
    """Return an item if the daemon should be running but sends no signs of life."""
    status = read_daemon_status(books, environment, now)
    if status is None or status.state != "silent":
        return []
    item = ActionItem(
        kind="daemon", subject=status.host, what="The daemon is silent", why=str(status), cure="tidemill up"
    )
    return [item]


def _find_bad_certificates(books: BooksReader, environment: str) -> list[ActionItem]:
    """Return items for certificates whose last alert is bad: they expire, or were replaced by files of no use."""
    items = []
    for subject in CERTIFICATES:
        for alert in books.events.find(kind="alert", subject=subject, environment=environment, newest=True, limit=1):
            payload = alert.read(AlertPayload)
            if payload.state == "bad":
                cure = "write the renewed certificate and its key to the same files: no restart is needed"
                what = f"The {subject} needs attention"
                items.append(ActionItem(kind="daemon", subject=alert.id, what=what, why=payload.reason, cure=cure))
    return items


def _describe_batch(record: BatchRecord) -> ActionItem:
    withdraw = f"tidemill data withdraw {record.id} --reason …"
    advice = f"Accept the change, deliver a corrected file, or set the batch aside: {withdraw}"
    return ActionItem(
        kind="batch",
        subject=record.verdict,
        what=f"{record.path} of source {record.source} was stopped: {record.rows:,} rows are not in the table",
        why=f"{record.reason}. {advice if record.readable else 'Deliver a corrected file, or set the batch aside'}",
        cure=f"tidemill data accept {record.source} --reason …" if record.readable else withdraw,
    )


def _find_waiting_releases(books: BooksReader, environment: str) -> list[ActionItem]:
    """Return items for releases that wait for an approval or have no watch."""
    items = []
    for kind in _WAITING_KINDS:
        for event in books.events.find(kind=kind, environment=environment, newest=True, limit=_MAX_EVENTS):
            if not _is_settled(books, environment, event):
                items.append(_describe_release(event))
    return items


def _find_waiting_builds(books: BooksReader, environment: str) -> list[ActionItem]:
    """Return items for the newest build that waits for an approval in each environment."""
    newest: dict[str, BuildWaitingPayload] = {}
    for event in books.events.find(kind=BUILD_WAITING, environment=environment, newest=True, limit=_MAX_EVENTS):
        waiting = event.read(BuildWaitingPayload)
        newest.setdefault(waiting.environment, waiting)
    return [
        ActionItem(
            kind="build",
            subject=waiting.build,
            what=f"build {waiting.number} waits for an approval for {name}",
            why=waiting.reason,
            cure=f"tidemill deploy approve {waiting.number} --to {name} --reason …",
        )
        for name, waiting in newest.items()
        if not _is_deployed(books, waiting.build, name)
    ]


def _is_deployed(books: BooksReader, build: str, environment: str) -> bool:
    """Return whether a build was deployed to an environment, or a job for it exists."""
    if books.jobs.find(trigger=f"deploy to {environment}", dedupe_key=build, limit=1):
        return True
    return any(each.build == build for each in books.deployments.find(environment=environment))


def waits_for_approval(books: BooksReader, environment: str, release: str) -> bool:
    """Return whether a release waits for the decision of a person."""
    return any(
        not _is_settled(books, environment, event)
        for kind in APPROVAL_TEXTS
        for event in books.events.find(kind=kind, subject=release, newest=True, limit=1)
        if event.environment == environment
    )


def _describe_release(event: Event) -> ActionItem:
    text = APPROVAL_TEXTS.get(event.kind, "has no monitoring")
    is_approval = event.kind in APPROVAL_TEXTS
    return ActionItem(
        kind="release",
        subject=event.subject,
        what=f"{event.subject} {text}",
        why=event.announcement.reason,
        cure=f"tidemill models approve {event.subject} --reason …"
        if is_approval
        else "set [[watch.values]] in tidemill.toml",
    )


def _is_settled(books: BooksReader, environment: str, event: Event) -> bool:
    """Return whether the release came into production after the event, or a person decided on it."""
    model = event.subject.partition("/")[0]
    routed = books.routes.find(
        environment=environment, model=model, linked=f"release:{event.subject}", after=event.id, limit=1
    )
    return bool(routed) or has_person_decided(books, event.subject, event.id)


def _describe_proposal(proposal: Proposal) -> ActionItem:
    decline = f"or decline it: `tidemill proposals decline {proposal.id} --reason …`"
    return ActionItem(
        kind="proposal",
        subject=proposal.id,
        what=f"{proposal.by} proposes a {proposal.kind}: {proposal.subject}",
        why=f"{proposal.reason}. Accept it with the command, {decline}",
        cure=proposal.command,
    )


def _find_failed_runs(books: BooksReader, environment: str) -> list[ActionItem]:
    """Return items for pipelines whose latest run failed, stopped or was interrupted."""
    items = []
    for pipeline in sorted(books.runs.values("pipeline", environment=environment)):
        for run in books.runs.find(pipeline=pipeline, environment=environment, newest=True, limit=1):
            if run.state in _BAD_STATES:
                state = f"was {run.state}" if run.state != "failed" else run.state
                cure = f"tidemill runs logs {run.id}" if run.state != "stopped" else f"tidemill why {run.id}"
                what = f"the latest run of {run.pipeline} {state}"
                items.append(ActionItem(kind="run", subject=run.id, what=what, why=run.error, cure=cure))
    return items
