"""The predictor of a model behind the fence: a few worker processes, with a limit of time and of memory for each."""

import threading
import time
import weakref
from contextlib import suppress
from typing import Any, Protocol

import msgspec
import polars as pl
from msgspec import Struct

from tidemill.core.model import Model
from tidemill.core.serving import Serving
from tidemill.errors import TidemillError, TimedOut, Transient
from tidemill.models.predictions import Predictions
from tidemill.serving.worker import Worker, WorkerEnded

LOAD_SECONDS = 120.0
WAIT_SECONDS = 30.0
# A further worker starts when a request waited so long for one.
_PATIENCE_SECONDS = 0.1
_IDLE_SECONDS = 60.0
_FAILURES_BEFORE_PAUSE = 3
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


class Incident(Struct, frozen=True, kw_only=True):
    """A worker of a release was ended: `kind` is timeout, memory, exit, signal or answer."""

    release: str
    kind: str
    reason: str


class WorkerHost(Protocol):
    """Starts workers, and is notified about those that were ended."""

    def start_worker(self, memory_mb: int) -> Worker: ...

    def warm_up(self, modules: list[str]) -> None: ...

    def note(self, incident: Incident) -> None: ...


class FencedPredictor:
    """Predicts in worker processes; a worker that hangs, ends itself or uses too much memory is replaced.

    Each request uses one worker. After three workers in a row were ended, requests are refused for a pause that grows
    to 30 s, so that a model that always hangs costs no time.
    """

    def __init__(self, host: WorkerHost, model: Model, name: str, limits: Serving) -> None:
        self.signature = model.manifest.signature
        self._host, self._name, self._limits = host, name, limits
        self._content = msgspec.msgpack.encode(model)
        self._changed = threading.Condition()
        self._idle: list[Worker] = []
        self._all: set[Worker] = set()
        self._starting = 0
        self._is_closed = False
        self._failures = 0
        self._resume = 0.0
        self._last_reason = ""
        self._last_wait = 0.0
        weakref.finalize(self, _close_workers, self._all)

    def start(self) -> None:
        """Start the first worker and load the package in it; raise `TidemillError` if this fails."""
        worker = self._start_worker()
        with self._changed:
            self._idle.append(worker)

    def predict(self, frame: pl.DataFrame) -> Predictions:
        """Predict rows in a worker.

        Raises
        ------
        TimedOut
            if the model does not answer within its limit of time.
        Transient
            if its process ended, no worker is free, or requests are refused for a pause.
        TidemillError
            if the model raised one; any other exception of the model is a `ModelError`.
        """
        worker = self._acquire()
        try:
            predictions = worker.predict(frame, self._limits.seconds)
        except WorkerEnded as ended:
            self._all.discard(worker)
            self._replace()
            raise self._fail(ended) from None
        except BaseException:
            self._release(worker)
            raise
        self._failures = 0
        self._release(worker)
        return predictions

    def close(self) -> None:
        """End all workers."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        _close_workers(self._all)

    def _acquire(self) -> Worker:
        began = time.monotonic()
        with self._changed:
            while True:
                if self._is_closed:
                    raise Transient("the service is stopping", "send the request again")
                now = time.monotonic()
                while self._idle and self._idle[-1].has_exited:
                    self._all.discard(self._idle.pop())
                if self._idle:
                    if now - began >= _PATIENCE_SECONDS:
                        self._last_wait = now
                    return self._idle.pop()
                if now < self._resume:
                    raise Transient(
                        f"release {self._name} gets no requests for {self._resume - now:.0f} s more: its last "
                        f"{self._failures} processes were ended, the last one because it {self._last_reason}",
                        "roll back to another release, or raise `timeout` or `memory_mb` under [serving]",
                    )
                waited = now - began
                if waited >= WAIT_SECONDS:
                    raise Transient(
                        f"all processes of release {self._name} were busy for {WAIT_SECONDS:g} s",
                        "send fewer requests at a time, or raise `processes` under [serving]",
                    )
                free = self._limits.processes - len(self._all) - self._starting
                if free > 0 and (waited >= _PATIENCE_SECONDS or not (self._all or self._starting)):
                    break
                self._changed.wait(_PATIENCE_SECONDS if free > 0 else WAIT_SECONDS - waited)
            self._starting += 1
        try:
            return self._start_worker()
        finally:
            with self._changed:
                self._starting -= 1
                self._changed.notify_all()

    def _release(self, worker: Worker) -> None:
        surplus = None
        with self._changed:
            if len(self._all) > 1 and time.monotonic() - self._last_wait > _IDLE_SECONDS:
                surplus = worker
                self._all.discard(worker)
            else:
                self._idle.append(worker)
                self._changed.notify()
        if surplus is not None:
            surplus.close()

    def _start_worker(self) -> Worker:
        worker = self._host.start_worker(self._limits.memory_mb)
        self._all.add(worker)
        try:
            modules = worker.load(self._content, max(LOAD_SECONDS, self._limits.seconds))
        except WorkerEnded as ended:
            self._all.discard(worker)
            raise self._fail(ended) from None
        except BaseException:
            self._all.discard(worker)
            worker.close()
            raise
        if self._is_closed:
            worker.close()
        if modules:
            self._host.warm_up(modules)
        return worker

    def _replace(self) -> None:
        """Start another worker in the background, so that the next request need not wait for it."""
        with self._changed:
            if self._is_closed or self._starting or self._idle or self._failures + 1 >= _FAILURES_BEFORE_PAUSE:
                self._changed.notify_all()
                return
            self._starting += 1
        threading.Thread(target=self._start_another, name="tidemill-worker", daemon=True).start()

    def _start_another(self) -> None:
        worker = None
        with suppress(TidemillError):
            worker = self._start_worker()
        with self._changed:
            self._starting -= 1
            if worker is not None:
                self._idle.append(worker)
            self._changed.notify_all()

    def _fail(self, ended: WorkerEnded) -> TidemillError:
        """Count and report the end of a worker; return the error of its request."""
        if ended.kind == "stopped" or self._is_closed:
            return Transient("the service is stopping", "send the request again")
        with self._changed:
            self._failures += 1
            self._last_reason = ended.reason
            beyond = self._failures - _FAILURES_BEFORE_PAUSE
            if beyond >= 0:
                self._resume = time.monotonic() + min(_FIRST_PAUSE * 2.0 ** min(beyond, 10), _LONGEST_PAUSE)
            self._changed.notify_all()
        self._host.note(Incident(release=self._name, kind=ended.kind, reason=ended.reason))
        kind = TimedOut if ended.kind == "timeout" else Transient
        cures = {
            "timeout": "send fewer rows, raise `timeout` under [serving], or roll back to another release",
            "memory": "send fewer rows, raise `memory_mb` under [serving], or roll back to another release",
        }
        cure = cures.get(ended.kind, "roll back to another release; the service's log has what the model printed")
        return kind(f"release {self._name} was ended: it {ended.reason}", cure)


def _close_workers(workers: set[Any]) -> None:
    for worker in list(workers):
        worker.close()
