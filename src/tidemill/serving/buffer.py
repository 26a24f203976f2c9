"""The journal buffer: a thread writes the rows to the journal, so that a request does not wait for the disk."""

import threading
from collections import defaultdict
from collections.abc import Sequence

import polars as pl

from tidemill.core.resources import Journal
from tidemill.serving.metrics import ServiceMetrics
from tidemill.telemetry import get_logger

log = get_logger("serving")


class JournalBuffer:
    """Collects rows and appends them to a journal: every `seconds`, when `rows` rows wait, and on `close`.

    A crash loses the waiting rows: at most `seconds` of predictions. If the journal cannot be written (the disk is
    full), the rows wait and the buffer tries again. If more than `bound` rows wait, new rows are dropped and counted.
    `append` never blocks on the disk.
    """

    def __init__(
        self, journal: Journal, metrics: ServiceMetrics, *, seconds: float = 0.5, rows: int = 5_000, bound: int = 50_000
    ) -> None:
        self._journal = journal
        self._metrics = metrics
        self._seconds, self._rows, self._bound = seconds, rows, bound
        self._waiting: defaultdict[str, list[pl.DataFrame]] = defaultdict(list)
        self._waiting_rows = 0
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self.is_open = True
        """Whether rows are written; the predictions of a service that is only being tested are not."""
        self._thread = threading.Thread(target=self._run, name="tidemill-journal", daemon=True)

    def start(self) -> None:
        """Start the thread that writes."""
        self._thread.start()

    def append(self, kind: str, frame: pl.DataFrame) -> None:
        """Add rows; the thread writes them to the journal a little later."""
        if not self.is_open:
            return
        with self._lock:
            fits = self._waiting_rows + frame.height <= self._bound
            if fits:
                self._waiting[kind].append(frame)
                self._waiting_rows += frame.height
            full = self._waiting_rows >= self._rows
        if not fits:
            self._metrics.count("tidemill_journal_rows_total", frame.height, outcome="dropped")
        if full:
            self._wake.set()

    def flush(self) -> bool:
        """Write all waiting rows; return False if some could not be written and still wait."""
        with self._lock:
            waiting, self._waiting = self._waiting, defaultdict(list)
        complete = True
        for kind, frames in waiting.items():
            complete = self._write(kind, frames) and complete
        self._metrics.set("tidemill_journal_queue_rows", self._waiting_rows)
        return complete

    def close(self) -> None:
        """Stop the thread and write all waiting rows; drop and count those that cannot be written now."""
        self._closing.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        if not self.flush():
            self._metrics.count("tidemill_journal_rows_total", self._waiting_rows, outcome="dropped")
            log.error("%d predictions are lost: the journal could not be written at shutdown", self._waiting_rows)

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(self._seconds)
            self._wake.clear()
            if not self.flush():
                self._closing.wait(self._seconds)

    def _write(self, kind: str, frames: list[pl.DataFrame]) -> bool:
        count = sum(frame.height for frame in frames)
        try:
            self._journal.append(kind, stack_frames(frames))
        except Exception:
            log.exception("%d rows of %s could not be written to the journal; the service tries again", count, kind)
            with self._lock:
                self._waiting[kind][:0] = frames
            return False
        self._metrics.count("tidemill_journal_rows_total", count, outcome="written")
        with self._lock:
            self._waiting_rows -= count
        return True


def stack_frames(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Stack frames into one chunk; where releases have different inputs, the columns become their union."""
    if len(frames) == 1:
        return frames[0]
    try:
        return pl.concat(frames, how="vertical", rechunk=True)
    except pl.exceptions.PolarsError:
        return pl.concat(frames, how="diagonal_relaxed", rechunk=True)
