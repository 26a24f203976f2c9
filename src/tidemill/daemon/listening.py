"""Alerts from the service, which the daemon cannot send: it stopped, a model was ended, the journal is not written."""

import threading
from collections import deque
from collections.abc import Callable

from tidemill.access.tokens import publish_tokens
from tidemill.daemon.patience import Patience
from tidemill.evidence.daemon_status import DaemonStatus, read_daemon_status
from tidemill.flow.session import Session
from tidemill.ledger.events import record_event
from tidemill.monitoring.alerts import State, alert_all
from tidemill.registry.publication import publish_routes
from tidemill.serving.fenced import Incident
from tidemill.telemetry import get_logger

log = get_logger("daemon")
_CHECK_SECONDS = 15.0
_MOST_INCIDENTS = 100
_SAME_AGAIN_SECONDS = 300.0


class Listener:
    """A thread that alerts the addresses of the policy: the heartbeat stops or starts again, or a model was ended.

    It also alerts about the problems that the functions of `watch` return.
    """

    def __init__(self, session: Session, every: float = _CHECK_SECONDS) -> None:
        self._session = session
        self._every = every
        self._stopped = threading.Event()
        self._patience = Patience(log.warning)
        self._silent = False
        self._watched: list[Callable[[], dict[str, str]]] = []
        self._problems: dict[str, str] = {}
        self._incidents: deque[Incident] = deque(maxlen=_MOST_INCIDENTS)
        self._reported: dict[str, float] = {}
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="tidemill-listener", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()
        self._wake.set()
        self._thread.join(timeout=10)

    def report(self, incident: Incident) -> None:
        """Record and notify that the process of a model was ended; the thread does it, so that no request waits."""
        self._incidents.append(incident)
        self._wake.set()

    def watch(self, find_problems: Callable[[], dict[str, str]]) -> None:
        """Also alert about the problems that a function returns by subject; an empty text is none."""
        self._watched.append(find_problems)

    def check_problems(self) -> None:
        """Send an alert for each problem that is new or over since the last call."""
        session = self._session
        for find_problems in self._watched:
            for subject, problem in find_problems().items():
                if problem == self._problems.get(subject, ""):
                    continue
                state: State = "bad" if problem else "well"
                environment = session.workspace.environment
                books, policy = session.workspace.ledger, session.project.policy
                alert_all(policy, books, session.clock, environment, "", subject, problem or "it is well again", state)
                self._problems[subject] = problem

    def repair_board(self) -> None:
        """Publish the routes and tokens of the ledger that the board has lost: a file was damaged or deleted."""
        session = self._session
        books, board, environment = session.workspace.ledger, session.workspace.board, session.workspace.environment
        for route in publish_routes(books, board, environment):
            log.warning(
                "published route %d of model %s again, which the board did not have", route.version, route.model
            )
        publish_tokens(books, [board])

    def check(self) -> DaemonStatus | None:
        """Return the daemon's status, and send an alert if it has changed; None if there never was a daemon."""
        session, books = self._session, self._session.workspace.ledger
        environment = session.workspace.environment
        status = read_daemon_status(books, environment, session.clock.now())
        if status is not None and (status.state == "silent" or self._silent):
            state: State = "bad" if status.state == "silent" else "well"
            message = str(status) if state == "bad" else f"it is {status.state} again"
            alert_all(session.project.policy, books, session.clock, environment, "", "daemon", message, state)
            self._silent = status.state == "silent"
        return status

    def _listen(self) -> None:
        next_check = self._session.clock.monotonic() + self._every
        while not self._stopped.is_set():
            self._wake.wait(max(0.0, next_check - self._session.clock.monotonic()))
            self._wake.clear()
            if self._incidents:
                self._patience.attempt("the models that were ended", self._report_incidents)
            if not self._stopped.is_set() and self._session.clock.monotonic() >= next_check:
                next_check += self._every
                self._patience.attempt("the daemon's heartbeat", self.check)
                self._patience.attempt("the state of the journal", self.check_problems)
                self._patience.attempt("the board", self.repair_board)

    def _report_incidents(self) -> None:
        """Write an event for each incident, and notify; the same one again only after some minutes."""
        session, books = self._session, self._session.workspace.ledger
        environment = session.workspace.environment
        while self._incidents:
            incident = self._incidents[0]
            now, about = session.clock.monotonic(), f"{incident.release}: {incident.kind}"
            if now - self._reported.get(about, -_SAME_AGAIN_SECONDS) >= _SAME_AGAIN_SECONDS:
                model = incident.release.rpartition("/")[0]
                reason = f"its process was ended: it {incident.reason}"
                payload = {"model": model, "kind": incident.kind, "reason": reason}
                record_event(
                    books, session.clock, "model.ended", incident.release, environment=environment, payload=payload
                )
                alert_all(session.project.policy, books, session.clock, environment, model, incident.release, reason)
                self._reported[about] = now
            self._incidents.popleft()
