"""Reminders: report what needs a person, once when it appears, and alert on stopped batches by their files."""

from datetime import timedelta

from tidemill.core.check import SchemaEvidence
from tidemill.core.trigger import Job
from tidemill.evidence.attention import ActionItem, list_actions
from tidemill.flow.session import Session
from tidemill.monitoring.alerts import alert_all

_EVERY = timedelta(seconds=30)


class Reminders:
    """The items that need a person, as far as they were reported."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._reported: set[tuple[str, str, str]] = set()
        self._next_check = 0.0

    def list_new(self) -> list[str]:
        """Return a line for each new item; the ledger is read at most every 30 seconds."""
        now = self._session.clock.monotonic()
        if now < self._next_check:
            return []
        self._next_check = now + _EVERY.total_seconds()
        workspace = self._session.workspace
        items = list_actions(workspace.ledger, workspace.environment, self._session.clock.now())
        keys = {(item.kind, item.subject, item.what): item for item in items if item.kind != "daemon"}
        lines = [_format_item(item) for key, item in keys.items() if key not in self._reported]
        self._reported = set(keys)
        return lines

    def alert_stopped_batches(self, job: Job) -> None:
        """Send an alert for each batch that a job's run stopped, with the path of its file."""
        books, environment = self._session.workspace.ledger, self._session.workspace.environment
        self._next_check = 0.0
        for verdict in books.verdicts.find(run=job.run, check="schema", action="stop") if job.run else ():
            source = verdict.subject.partition("/")[0]
            evidence = verdict.read(SchemaEvidence)
            path = evidence.path or verdict.subject
            reason = f"was stopped: {verdict.reason}"
            reason += f"; accept it: `tidemill data accept {source}`" if evidence.is_readable else ""
            policy = self._session.project.policy
            alert_all(policy, books, self._session.clock, environment, job.model, f"{source} {path}", reason)


def _format_item(item: ActionItem) -> str:
    return f"needs a person: {item.what}: {item.cure}"
