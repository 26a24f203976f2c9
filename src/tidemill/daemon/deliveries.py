"""Deliveries: the jobs that deploy builds automatically, in the environment that builds and deploys."""

from msgspec import to_builtins

from tidemill.core.environment import CONTROL
from tidemill.core.event import BUILD_WAITING, BuildWaitingPayload
from tidemill.daemon.triggers import Triggers
from tidemill.delivery.automation import Candidate, list_candidates
from tidemill.errors import Conflict
from tidemill.flow.session import Session

DEPLOYMENT = "deployment"


class Deliveries:
    """Creates a job for each build that an environment takes automatically; once for each build and environment."""

    def __init__(self, session: Session, triggers: Triggers) -> None:
        self._session = session
        self._triggers = triggers
        self._is_control = session.workspace.environment == CONTROL

    def create_jobs(self) -> list[str]:
        """Create the jobs that are due; return a message for each. A build that lacks approvals emits an event."""
        if not self._is_control:
            return []
        books, clock = self._session.workspace.ledger, self._session.clock
        candidates = list_candidates(books, self._session.project.policy, clock.now())
        return [message for candidate in list(candidates) if (message := self._handle(candidate))]

    def _handle(self, candidate: Candidate) -> str:
        environment, build = candidate.environment, candidate.build
        if not candidate.verdict.stops:
            params = {"environment": environment, "build": build.id, "reason": f"push to {build.branch}"}
            try:
                self._triggers.create_job(f"deploy to {environment}", DEPLOYMENT, params, build.id)
            except Conflict:
                return ""
            return f"{build.label} is deployed to {environment}"
        failed = [each["about"] for each in candidate.verdict.evidence["findings"] if each["outcome"] == "fail"]
        if failed != ["approvals"]:
            return ""
        waiting = BuildWaitingPayload(
            build=build.id, number=build.number, environment=environment, reason=candidate.verdict.reason
        )
        key = f"{BUILD_WAITING}/{build.id}/{environment}"
        now = self._session.clock.now()
        is_new = self._triggers.emit(BUILD_WAITING, f"{build.label} → {environment}", key, now, to_builtins(waiting))
        return f"{build.label} waits for approval: {candidate.verdict.reason}" if is_new else ""
