"""The engine `processes`: runs steps in parallel in a pool of worker processes that are reused."""

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
from tidemill.flow.engines.worker import FINISHED, STARTED, work
from tidemill.flow.session import Session
from tidemill.flow.tasks import Task, TaskFailure, TaskOutcome
from tidemill.host.programs import end_programs_of_dead_worker, end_worker

_GRACE = 2.0


class ProcessEngine:
    """Performs tasks in worker processes; if a worker dies or hangs, its task fails and a new worker replaces it."""

    name = "processes"

    def __init__(self, session: Session, width: int | None = None) -> None:
        self._session = session
        self._width = width or os.cpu_count() or 1
        self._workers: list[_Worker] = []
        self._failed_to_start: list[tuple[str, TaskOutcome]] = []
        atexit.register(self.close)

    @property
    def _busy(self) -> "list[_Worker]":
        return [worker for worker in self._workers if worker.task is not None]

    def count_free_slots(self) -> int:
        return self._width - len(self._busy)

    def start(self, task: Task) -> None:
        for worker in [worker for worker in self._workers if not worker.process.is_alive()]:
            self._retire(worker)
        idle = next((worker for worker in self._workers if worker.task is None), None)
        if idle is None:
            idle = _Worker(self._session)
            self._workers.append(idle)
        if failure := idle.begin(task):
            self._failed_to_start.append((task.node, TaskOutcome(failure=failure)))

    def wait(self, seconds: float | None) -> list[tuple[str, TaskOutcome]]:
        if self._failed_to_start:
            failed, self._failed_to_start = self._failed_to_start, []
            return failed
        busy = self._busy
        if not busy:
            return []
        waited = [worker.pipe for worker in busy] + [worker.process.sentinel for worker in busy]
        deadlines = [worker.deadline - time.monotonic() for worker in busy if worker.deadline is not None]
        limits = deadlines + ([seconds] if seconds is not None else [])
        ready = set(connection.wait(waited, max(0.0, min(limits)) if limits else None))
        return [outcome for worker in busy if (outcome := self._poll(worker, ready)) is not None]

    def _poll(self, worker: "_Worker", ready: set[Any]) -> tuple[str, TaskOutcome] | None:
        assert worker.task is not None
        node = worker.task.node
        if worker.pipe in ready:
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                message = None  # the worker died while it sent
            if message == STARTED:
                worker.start_timeout()
                return None
            if message is not None:
                return node, worker.finish(message)
        elif worker.process.sentinel not in ready:
            if worker.deadline is None or time.monotonic() < worker.deadline:
                return None
            self._retire(worker)
            return node, worker.fail(f"it exceeded its timeout of {worker.task.timeout} and was killed")
        worker.process.join()
        self._retire(worker)
        return node, worker.fail(_describe_exit(worker.process.exitcode))

    def stop(self) -> None:
        for worker in self._busy:
            self._retire(worker)

    def close(self) -> None:
        for worker in list(self._workers):
            self._retire(worker)
        atexit.unregister(self.close)

    def _retire(self, worker: "_Worker") -> None:
        self._workers.remove(worker)
        worker.terminate()


class _Worker:
    """The parent's handle of a worker process: sends tasks, receives outcomes and printed text."""

    def __init__(self, session: Session) -> None:
        fresh = multiprocessing.get_context("spawn")
        self.pipe, worker_pipe = fresh.Pipe()
        printed, worker_output = fresh.Pipe(duplex=False)
        self.process = fresh.Process(target=work, args=(session.reopen, worker_pipe, worker_output))
        self.process.start()
        worker_pipe.close()
        worker_output.close()
        self.task: Task | None = None
        self.deadline: float | None = None
        self._log = Log()
        self._output_changed = threading.Condition()
        self._quiet = False
        threading.Thread(target=self._listen, args=(printed,), daemon=True).start()

    def begin(self, task: Task) -> TaskFailure | None:
        """Send a task to the worker; return a failure if the task cannot be pickled."""
        try:
            content = ForkingPickler.dumps(task)
        except (pickle.PickleError, AttributeError, TypeError) as error:
            problem = f"step {task.node!r} cannot be sent to another process: {error}"
            cure = "define steps at the top level of pipeline.py or of a module, and pass plain data to them"
            return TaskFailure(text=problem, traceback="", error=TidemillError(problem, cure))
        self.task = task
        with self._output_changed:
            self._log, self._quiet = Log(), False
        with suppress(OSError):  # the worker is dying: its sentinel reports it
            self.pipe.send_bytes(content)
        return None

    def start_timeout(self) -> None:
        """Start the timeout of the task, when the worker reports that the task starts."""
        if self.task is not None and self.task.timeout is not None:
            self.deadline = time.monotonic() + self.task.timeout.total_seconds() + _GRACE

    def finish(self, outcome: TaskOutcome) -> TaskOutcome:
        self.task = self.deadline = None
        return replace(outcome, executor=self._name, log=self._read_output() + outcome.log)

    def fail(self, problem: str) -> TaskOutcome:
        error = TidemillError(problem, "read the log of the step, then continue with `tidemill runs resume`")
        return TaskOutcome(failure=TaskFailure(problem, "", error), executor=self._name, log=self._read_output())

    @property
    def _name(self) -> str:
        return f"processes, process {self.process.pid}"

    def _read_output(self) -> str:
        """Return all text that the worker printed during its task."""
        with self._output_changed:
            self._output_changed.wait_for(lambda: self._quiet, timeout=_GRACE)
            return self._log.text

    def _listen(self, printed: Any) -> None:
        with suppress(OSError), printed:
            while content := os.read(printed.fileno(), 65_536):
                text = content.removesuffix(FINISHED).decode(errors="replace")
                with suppress(OSError, ValueError):
                    sys.stderr.write(text)
                with self._output_changed:
                    self._log.add(text)
                    self._quiet = content.endswith(FINISHED)
                    self._output_changed.notify_all()
        with self._output_changed:
            self._quiet = True
            self._output_changed.notify_all()

    def terminate(self) -> None:
        """Stop the process: kill a busy worker with the programs of its step, let an idle one exit."""
        if self.task is None:
            with suppress(OSError):
                self.pipe.send(None)
            self.process.join(_GRACE)
        if self.process.is_alive() and self.process.pid is not None:
            end_worker(self.process.pid)
            self.process.join()
        elif self.task is not None and self.process.pid is not None:
            end_programs_of_dead_worker(self.process.pid)
        self.pipe.close()


def _describe_exit(code: int | None) -> str:
    if code is not None and code < 0:
        extra = " (out of memory?)" if code == -9 else ""
        return f"its process was killed by signal {-code}{extra}"
    return f"its process exited with code {code}"
