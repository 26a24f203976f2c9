"""The buffer: takes the journal off the hot path; a thread writes what waits, whole segments at a time."""

import threading
from collections import defaultdict
from collections.abc import Sequence

import polars as pl

from tidemill.core.resources import Journal
from tidemill.serving.metrics import Metrics
from tidemill.telemetry import get_logger

log = get_logger("serving")


class Buffer:
    """Appends to a journal later: every `seconds`, or when `rows` wait, and all that is left on `close`.

    A crash loses what waits: at most `seconds` of answers. Where the journal cannot be written (a full disk),
    rows wait and are tried again; those beyond `bound` are dropped and counted. `append` never blocks on the disk.
    """

    def __init__(
        self, journal: Journal, metrics: Metrics, *, seconds: float = 0.5, rows: int = 5_000, bound: int = 50_000
    ) -> None:
        self._journal = journal
        self._metrics = metrics
        self._seconds, self._rows, self._bound = seconds, rows, bound
        self._waiting: defaultdict[str, list[pl.DataFrame]] = defaultdict(list)
        self._number = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tidemill-journal", daemon=True)

    def start(self) -> None:
        """Start the thread that writes."""
        self._thread.start()

    def append(self, kind: str, frame: pl.DataFrame) -> None:
        """Take rows; they are in the journal a little later."""
        with self._lock:
            fits = self._number + frame.height <= self._bound
            if fits:
                self._waiting[kind].append(frame)
                self._number += frame.height
            full = self._number >= self._rows
        if not fits:
            self._metrics.count("tidemill_journal_rows_total", frame.height, outcome="dropped")
        if full:
            self._wake.set()

    def flush(self) -> bool:
        """Write what waits; False where some of it could not be written and waits on."""
        with self._lock:
            taken, self._waiting = self._waiting, defaultdict(list)
        whole = True
        for kind, parts in taken.items():
            whole = self._write(kind, parts) and whole
        self._metrics.set("tidemill_journal_queue_rows", self._number)
        return whole

    def close(self) -> None:
        """Stop the thread and write all that waits; what cannot be written now is dropped and counted."""
        self._closing.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        if not self.flush():
            self._metrics.count("tidemill_journal_rows_total", self._number, outcome="dropped")
            log.error("%d answers are not in the journal: it could not be written at shutdown", self._number)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(self._seconds)
            self._wake.clear()
            if not self.flush():
                self._closing.wait(self._seconds)

    def _write(self, kind: str, parts: list[pl.DataFrame]) -> bool:
        number = sum(part.height for part in parts)
        try:
            self._journal.append(kind, stacked(parts))
        except Exception:
            log.exception("%d rows of %s could not be written to the journal; they wait", number, kind)
            with self._lock:
                self._waiting[kind][:0] = parts
            return False
        self._metrics.count("tidemill_journal_rows_total", number, outcome="written")
        with self._lock:
            self._number -= number
        return True


def stacked(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Rows below each other, in one chunk; those of releases with other inputs are widened to one form."""
    if len(parts) == 1:
        return parts[0]
    try:
        return pl.concat(parts, how="vertical", rechunk=True)
    except pl.exceptions.PolarsError:
        return pl.concat(parts, how="diagonal_relaxed", rechunk=True)
