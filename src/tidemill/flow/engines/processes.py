"""The engine `processes`: steps run side by side in a pool of processes that stay warm between them."""

import atexit
import multiprocessing
import os
import pickle
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.reduction import ForkingPickler
from typing import Any

from msgspec.structs import replace

from tidemill.errors import TidemillError
from tidemill.flow.capture import Log
from tidemill.flow.engines.worker import BEGUN, ENDED, work
from tidemill.flow.session import Session
from tidemill.flow.tasks import Failure, Outcome, Task

_GRACE = 2.0


class ProcessEngine:
    """Performs tasks in worker processes; one that dies or hangs fails its task, and another takes its place."""

    name = "processes"

    def __init__(self, session: Session, width: int | None = None) -> None:
        self._session = session
        self._width = width or os.cpu_count() or 1
        self._workers: list[_Worker] = []
        self._refused: list[tuple[str, Outcome]] = []
        atexit.register(self.close)

    @property
    def _busy(self) -> "list[_Worker]":
        return [worker for worker in self._workers if worker.task is not None]

    def room(self) -> int:
        return self._width - len(self._busy)

    def start(self, task: Task) -> None:
        for worker in [worker for worker in self._workers if not worker.process.is_alive()]:
            self._retire(worker)
        idle = next((worker for worker in self._workers if worker.task is None), None)
        if idle is None:
            idle = _Worker(self._session)
            self._workers.append(idle)
        if failure := idle.begin(task):
            self._refused.append((task.node, Outcome(failure=failure)))

    def wait(self, seconds: float | None) -> list[tuple[str, Outcome]]:
        if self._refused:
            refused, self._refused = self._refused, []
            return refused
        busy = self._busy
        if not busy:
            return []
        waited = [worker.answers for worker in busy] + [worker.process.sentinel for worker in busy]
        deadlines = [worker.deadline - time.monotonic() for worker in busy if worker.deadline is not None]
        limits = deadlines + ([seconds] if seconds is not None else [])
        ready = set(connection.wait(waited, max(0.0, min(limits)) if limits else None))
        return [ended for worker in busy if (ended := self._ended(worker, ready)) is not None]

    def _ended(self, worker: "_Worker", ready: set[Any]) -> tuple[str, Outcome] | None:
        assert worker.task is not None
        node = worker.task.node
        if worker.answers in ready:
            try:
                answer = worker.answers.recv()
            except (EOFError, OSError):
                answer = None  # it died while it answered
            if answer == BEGUN:
                worker.begun()
                return None
            if answer is not None:
                return node, worker.end(answer)
        elif worker.process.sentinel not in ready:
            if worker.deadline is None or time.monotonic() < worker.deadline:
                return None
            self._retire(worker)
            return node, worker.died(f"it took longer than its timeout of {worker.task.timeout} and was killed")
        worker.process.join()
        self._retire(worker)
        return node, worker.died(_way_of_dying(worker.process.exitcode))

    def stop(self) -> None:
        for worker in self._busy:
            self._retire(worker)

    def close(self) -> None:
        for worker in list(self._workers):
            self._retire(worker)
        atexit.unregister(self.close)

    def _retire(self, worker: "_Worker") -> None:
        self._workers.remove(worker)
        worker.leave()


class _Worker:
    """A worker process, as its parent sees it: tasks go to it, answers and what it prints come back."""

    def __init__(self, session: Session) -> None:
        fresh = multiprocessing.get_context("spawn")
        self.answers, theirs = fresh.Pipe()
        printed, theirs_to_print = fresh.Pipe(duplex=False)
        self.process = fresh.Process(target=work, args=(session.reopen, theirs, theirs_to_print))
        self.process.start()
        theirs.close()
        theirs_to_print.close()
        self.task: Task | None = None
        self.deadline: float | None = None
        self._log = Log()
        self._told = threading.Condition()
        self._quiet = False
        threading.Thread(target=self._listen, args=(printed,), daemon=True).start()

    def begin(self, task: Task) -> Failure | None:
        """Hand a task over; a failure where it cannot leave this process."""
        try:
            content = ForkingPickler.dumps(task)
        except (pickle.PickleError, AttributeError, TypeError) as unable:
            said = f"step {task.node!r} cannot be handed to another process: {unable}"
            cure = "define steps at the top of pipeline.py or of a module, and give them plain data"
            return Failure(text=said, traceback="", error=TidemillError(said, cure))
        self.task = task
        with self._told:
            self._log, self._quiet = Log(), False
        with suppress(OSError):  # it is dead or dying: the sentinel tells
            self.answers.send_bytes(content)
        return None

    def begun(self) -> None:
        """Its task begins now."""
        if self.task is not None and self.task.timeout is not None:
            self.deadline = time.monotonic() + self.task.timeout.total_seconds() + _GRACE

    def end(self, outcome: Outcome) -> Outcome:
        self.task = self.deadline = None
        return replace(outcome, executor=self._name, log=self._printed() + outcome.log)

    def died(self, how: str) -> Outcome:
        error = TidemillError(how, "the step's log may tell more; what was done before is kept: `tidemill runs resume`")
        return Outcome(failure=Failure(how, "", error), executor=self._name, log=self._printed())

    @property
    def _name(self) -> str:
        return f"processes, process {self.process.pid}"

    def _printed(self) -> str:
        """All that it printed during its task."""
        with self._told:
            self._told.wait_for(lambda: self._quiet, timeout=_GRACE)
            return self._log.text

    def _listen(self, printed: Any) -> None:
        with suppress(OSError), printed:
            while content := os.read(printed.fileno(), 65_536):
                text = content.removesuffix(ENDED).decode(errors="replace")
                with suppress(OSError, ValueError):
                    sys.stderr.write(text)
                with self._told:
                    self._log.add(text)
                    self._quiet = content.endswith(ENDED)
                    self._told.notify_all()
        with self._told:
            self._quiet = True
            self._told.notify_all()

    def leave(self) -> None:
        """End the process: at once where it works, in order where it is idle."""
        if self.task is None:
            with suppress(OSError):
                self.answers.send(None)
            self.process.join(_GRACE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.answers.close()


def _way_of_dying(code: int | None) -> str:
    if code is not None and code < 0:
        extra = " (out of memory?)" if code == -9 else ""
        return f"its process was killed by signal {-code}{extra}"
    return f"its process ended by itself with exit code {code}"
