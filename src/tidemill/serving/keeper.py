"""Keeps the journal of a service readable: merges its small files and notices damaged ones, also without a daemon."""

import threading

from tidemill.core.damage import Checked
from tidemill.core.resources import Journal
from tidemill.serving.metrics import ServiceMetrics
from tidemill.telemetry import get_logger

log = get_logger("serving")
_EVERY = 10.0
_NAMED = 3


class JournalKeeper:
    """A thread that tidies the journal every few seconds, so that the number of its small files is bounded.

    It also takes up the rows of services that were killed. Processes that share a journal take turns.
    """

    def __init__(self, journal: Journal, metrics: ServiceMetrics, every: float = _EVERY) -> None:
        self._journal = journal
        self._metrics = metrics
        self._every = every
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidemill-keeper", daemon=True)
        self.problem = ""
        """The damaged and missing files of the journal, for an alert; empty if there are none."""

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, after the merge that is running."""
        self._stopped.set()
        if self._thread.ident is not None:
            self._thread.join()

    def tidy(self) -> None:
        """Tidy every kind, and look for damage."""
        for kind in self._journal.kinds():
            if self._stopped.is_set():
                return
            self._journal.tidy(kind)
        if isinstance(self._journal, Checked):
            damages = self._journal.damages()
            self._metrics.set("tidemill_journal_damaged_files", len(damages))
            names = ", ".join(damage.name for damage in damages[:_NAMED]) + (", …" if len(damages) > _NAMED else "")
            self.problem = f"{len(damages)} files are damaged: {names}; see `tidemill doctor`" if damages else ""

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                self.tidy()
            except Exception:
                log.exception("the files of the journal could not be merged; the service tries again")
            self._stopped.wait(self._every)
