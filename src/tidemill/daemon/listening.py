"""Listens for the daemon's heartbeat beside the service: a daemon that is silent cannot say so itself."""

import threading

from tidemill.daemon.patience import Patience
from tidemill.evidence.daemon_status import DaemonStatus, read_daemon_status
from tidemill.flow.session import Session
from tidemill.monitoring.alerts import State, alert_all
from tidemill.telemetry import get_logger

log = get_logger("daemon")
_EVERY = 15.0


class Listener:
    """Tells those whom the policy names when the daemon falls silent, and when it is heard again."""

    def __init__(self, session: Session, every: float = _EVERY) -> None:
        self._session = session
        self._every = every
        self._ended = threading.Event()
        self._patience = Patience(log.warning)
        self._silent = False
        self._thread = threading.Thread(target=self._listen, name="tidemill-listener", daemon=True)

    def start(self) -> None:
        """Listen from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Listen no more."""
        self._ended.set()
        self._thread.join(timeout=10)

    def look(self) -> DaemonStatus | None:
        """What is heard now; who must know of it is told."""
        session, books = self._session, self._session.workspace.ledger
        environment = session.workspace.environment
        heard = read_daemon_status(books, environment, session.clock.now())
        if heard is not None and (heard.state == "silent" or self._silent):
            state: State = "bad" if heard.state == "silent" else "well"
            said = str(heard) if state == "bad" else f"it is {heard.state} again"
            alert_all(session.project.policy, books, session.clock, environment, "", "daemon", said, state)
            self._silent = heard.state == "silent"
        return heard

    def _listen(self) -> None:
        while not self._ended.wait(self._every):
            self._patience.attempt("the daemon's heartbeat", self.look)
