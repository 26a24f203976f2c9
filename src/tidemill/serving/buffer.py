"""The journal buffer: a thread writes the rows to the journal, so that requests do not wait for each other's disk."""

import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, Protocol, runtime_checkable

import polars as pl

from tidemill.core.policy import JournalPolicy
from tidemill.core.resources import Journal
from tidemill.errors import TidemillError
from tidemill.serving.metrics import ServiceMetrics
from tidemill.telemetry import get_logger

log = get_logger("serving")
_REFUSED = "the predictions could not be recorded in the journal: {}"
_CURE = "free space on the disk of the service, then send the request again; no prediction was recorded"


class RowSpool(Protocol):
    """A file to which rows are added before a reply."""

    def append(self, frame: pl.DataFrame) -> None: ...
    def close(self) -> None: ...


@runtime_checkable
class SpooledJournal(Protocol):
    """A journal that can keep the rows of replies in a file until they are stored."""

    def open_spool(self, kind: str) -> Any: ...
    def append_spool(self, spool: Any, frame: pl.DataFrame) -> None: ...


class JournalBuffer:
    """Collects rows and appends them to a journal: every few parts of a second, when `rows` rows wait, and on `close`.

    With the durability `batch`, a killed service loses the rows that wait: those of at most the `seconds` of the
    policy. With `group`, `append` returns a future that is done when the rows are on the disk, together with those of
    all requests that came meanwhile.

    If the journal cannot be written (the disk is full), rows wait and the buffer tries again. If more than `bound` rows
    wait, new rows are dropped and counted with `batch`, and refused with `group`. `append` never blocks on the disk.
    """

    def __init__(
        self,
        journal: Journal,
        metrics: ServiceMetrics,
        *,
        seconds: float = 0.5,
        rows: int = 5_000,
        bound: int = 50_000,
        grouped: bool = False,
    ) -> None:
        self._journal = journal
        self._metrics = metrics
        self._seconds, self._rows, self._bound = seconds, rows, bound
        self._waiting: defaultdict[str, list[pl.DataFrame]] = defaultdict(list)
        self._waiting_rows = 0
        self._spools: dict[str, RowSpool] = {}
        self._spooled: defaultdict[str, list[pl.DataFrame]] = defaultdict(list)
        self._group: Future[None] | None = Future() if grouped else None
        self._sealed = time.monotonic()
        self._problem = ""
        self.lost = 0
        """The number of predictions that were dropped."""
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self.is_open = True
        """Whether rows are written; the predictions of a service that is only being tested are not."""
        self._thread = threading.Thread(target=self._run, name="tidemill-journal", daemon=True)

    @classmethod
    def open(cls, journal: Journal, metrics: ServiceMetrics, policy: JournalPolicy) -> "JournalBuffer":
        """Return the buffer that keeps the promise of a policy: half of the bound is left for the write itself."""
        return cls(journal, metrics, seconds=policy.seconds / 2, grouped=policy.durability == "group")

    @property
    def problem(self) -> str:
        """Why rows cannot be written now; empty if all is well."""
        return self._problem

    def start(self) -> None:
        """Start the thread that writes."""
        self._thread.start()

    def append(self, kind: str, frame: pl.DataFrame) -> "Future[None] | None":
        """Add rows; with the durability `group`, return a future that is done when they are on the disk."""
        if not self.is_open:
            return None
        with self._lock:
            fits = self._waiting_rows + frame.height <= self._bound
            if fits:
                self._waiting[kind].append(frame)
                self._waiting_rows += frame.height
            group = self._group
            full = self._waiting_rows >= self._rows or group is not None
        if not fits:
            return self._drop(frame.height, is_refused=group is not None)
        if full:
            self._wake.set()
        return group

    def flush(self) -> bool:
        """Write all waiting rows; return False if some could not be written and still wait."""
        if self._group is not None:
            self._commit_group()
            return self._seal()
        with self._lock:
            waiting, self._waiting = self._waiting, defaultdict(list)
        problems = [self._write(kind, frames) for kind, frames in waiting.items()]
        problem = next(filter(None, problems), "")
        self._report(problem)
        return not problem

    def close(self) -> None:
        """Stop the thread and write all waiting rows; drop and count those that cannot be written now."""
        self._closing.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        if self.flush():
            return
        for spool in self._spools.values():  # the next service takes the rows up
            spool.close()
        spooled = sum(frame.height for frames in self._spooled.values() for frame in frames)
        lost = self._waiting_rows - spooled
        if spooled:
            log.error("%d predictions are not in the journal yet: they are read when it can be written again", spooled)
        if lost:
            self._metrics.count("tidemill_journal_rows_total", lost, outcome="dropped")
            log.error("%d predictions are lost: the journal could not be written at shutdown", lost)

    def _drop(self, count: int, *, is_refused: bool) -> "Future[None] | None":
        self._metrics.count("tidemill_journal_rows_total", count, outcome="refused" if is_refused else "dropped")
        if is_refused:
            refused: Future[None] = Future()
            refused.set_exception(TidemillError(_REFUSED.format(self._problem or "too many rows wait"), _CURE))
            return refused
        if not self.lost:
            log.error("%d rows wait for the journal: new rows are dropped", self._waiting_rows)
        self.lost += count
        self._problem = self._problem or "the journal is written too slowly: predictions are dropped"
        return None

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wake.wait(self._seconds)
            self._wake.clear()
            if self._group is None:
                written = self.flush()
            else:
                self._commit_group()
                written = not self._is_due() or self._seal()
            if not written:
                self._closing.wait(self._seconds)

    def _is_due(self) -> bool:
        """Return whether the rows on the disk are to become a segment, which readers see."""
        spooled = sum(frame.height for frames in self._spooled.values() for frame in frames)
        return spooled >= self._rows or time.monotonic() >= self._sealed + self._seconds

    def _commit_group(self) -> None:
        """Put all waiting rows on the disk, and complete their futures."""
        with self._lock:
            waiting, self._waiting = self._waiting, defaultdict(list)
            group, self._group = self._group, Future()
        assert group is not None
        problems = [self._spool(kind, frames) for kind, frames in waiting.items()]
        problem = next(filter(None, problems), "")
        if problem:
            group.set_exception(TidemillError(_REFUSED.format(problem), _CURE))
        else:
            group.set_result(None)

    def _spool(self, kind: str, frames: list[pl.DataFrame]) -> str:
        """Put rows on the disk; return why that failed, or an empty text."""
        count = sum(frame.height for frame in frames)
        try:
            rows = stack_frames(frames)
            if isinstance(self._journal, SpooledJournal):
                if kind not in self._spools:
                    self._spools[kind] = self._journal.open_spool(kind)
                self._spools[kind].append(rows)
                self._spooled[kind].append(rows)
                return ""
            self._journal.append(kind, rows)
        except Exception as error:
            log.exception("%d rows of %s could not be written; their requests are refused", count, kind)
            self._forget(count, "refused")
            self._report(f"the journal cannot be written: {error}")
            return str(error)
        self._forget(count, "written")
        return ""

    def _seal(self) -> bool:
        """Turn the spools into segments; return False if that failed and is tried again."""
        problem, self._sealed = "", time.monotonic()
        for kind, spool in list(self._spools.items()):
            frames = self._spooled[kind]
            count = sum(frame.height for frame in frames)
            try:
                if frames:
                    assert isinstance(self._journal, SpooledJournal)
                    self._journal.append_spool(spool, stack_frames(frames))
            except Exception as error:
                log.exception("%d rows of %s wait in their file; the service tries again", count, kind)
                problem = f"the journal cannot be written: {error}"
                continue
            if frames:
                del self._spools[kind], self._spooled[kind]
                self._forget(count, "written")
        self._report(problem)
        return not problem

    def _write(self, kind: str, frames: list[pl.DataFrame]) -> str:
        """Append rows to the journal; return why that failed, or an empty text."""
        count = sum(frame.height for frame in frames)
        try:
            self._journal.append(kind, stack_frames(frames))
        except Exception as error:
            log.exception("%d rows of %s could not be written to the journal; the service tries again", count, kind)
            with self._lock:
                self._waiting[kind][:0] = frames
            return f"the journal cannot be written: {error}"
        self._forget(count, "written")
        return ""

    def _forget(self, count: int, outcome: str) -> None:
        self._metrics.count("tidemill_journal_rows_total", count, outcome=outcome)
        with self._lock:
            self._waiting_rows -= count

    def _report(self, problem: str) -> None:
        self._problem = problem
        self._metrics.set("tidemill_journal_failed", 1 if problem else 0)
        self._metrics.set("tidemill_journal_queue_rows", self._waiting_rows)


def stack_frames(frames: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Stack frames into one chunk; where releases have different inputs, the columns become their union."""
    if len(frames) == 1:
        return frames[0]
    try:
        return pl.concat(frames, how="vertical", rechunk=True)
    except pl.exceptions.PolarsError:
        return pl.concat(frames, how="diagonal_relaxed", rechunk=True)
