"""Watch the daemon's heartbeat from the service: a daemon that has died cannot report it."""

import threading

from tidemill.daemon.patience import Patience
from tidemill.evidence.daemon_status import DaemonStatus, read_daemon_status
from tidemill.flow.session import Session
from tidemill.monitoring.alerts import State, alert_all
from tidemill.telemetry import get_logger

log = get_logger("daemon")
_CHECK_SECONDS = 15.0


class Listener:
    """A thread that alerts the addresses of the policy when the heartbeat stops, and when it starts again."""

    def __init__(self, session: Session, every: float = _CHECK_SECONDS) -> None:
        self._session = session
        self._every = every
        self._stopped = threading.Event()
        self._patience = Patience(log.warning)
        self._silent = False
        self._thread = threading.Thread(target=self._listen, name="tidemill-listener", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()
        self._thread.join(timeout=10)

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
        while not self._stopped.wait(self._every):
            self._patience.attempt("the daemon's heartbeat", self.check)
