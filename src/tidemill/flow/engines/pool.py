"""A pool of worker processes that are reused: the engines `processes` and `container` start different ones."""

import atexit
import codecs
import os
import pickle
import sys
import threading
import time
from contextlib import suppress
from multiprocessing import connection
from multiprocessing.reduction import ForkingPickler
from typing import Any, Protocol

from msgspec.structs import replace

from tidemill.errors import TidemillError
from tidemill.flow.capture import Log
from tidemill.flow.engines.worker import FINISHED, STARTED
from tidemill.flow.tasks import Task, TaskFailure, TaskOutcome

GRACE_SECONDS = 2.0
RESUME = "read the log of the step, then continue with `tidemill runs resume`"


class WorkerProcess(Protocol):
    """A process that performs tasks (see `worker`).

    Tasks are sent through `tasks`, and their outcomes come through `outcomes`; `printed` is what the process prints,
    and `sentinel` is ready when it has ended. `place` is where it runs.
    """

    tasks: Any
    outcomes: Any
    printed: Any
    sentinel: Any
    place: str

    def is_alive(self) -> bool: ...

    def is_ending(self) -> bool:
        """Return whether it has ended by itself, although `sentinel` is not ready yet."""
        ...

    def join(self, seconds: float | None = None) -> None: ...

    def kill(self) -> None:
        """End it at once with the programs of its step, and return when it has ended."""
        ...

    def end_programs(self) -> None:
        """End the programs that the step of a process that has ended left behind."""
        ...

    def describe_end(self, printed: str) -> TidemillError:
        """Return why it ended, and what to do; `printed` is what it printed."""
        ...


class Launcher(Protocol):
    """Starts the worker processes of an engine."""

    def choose_kind(self, task: Task) -> str:
        """Return the kind of process that a task needs: a worker is reused for tasks of its kind."""
        ...

    def launch(self, kind: str) -> WorkerProcess:
        """Start a process of a kind."""
        ...


class PoolEngine:
    """Performs tasks in worker processes; if a worker dies or hangs, its task fails and a new worker replaces it."""

    def __init__(self, name: str, launcher: Launcher, width: int | None = None) -> None:
        self.name = name
        self._launcher = launcher
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
        try:
            failure = self._find_idle(task).begin(task)
        except TidemillError as error:
            failure = TaskFailure(text=error.problem, traceback="", error=error)
        if failure:
            self._failed_to_start.append((task.node, TaskOutcome(failure=failure)))

    def _find_idle(self, task: Task) -> "_Worker":
        kind = self._launcher.choose_kind(task)
        idle = next((worker for worker in self._workers if worker.task is None and worker.kind == kind), None)
        if idle is None:
            idle = _Worker(self.name, kind, self._launcher.launch(kind))
            self._workers.append(idle)
        return idle

    def wait(self, seconds: float | None) -> list[tuple[str, TaskOutcome]]:
        if self._failed_to_start:
            failed, self._failed_to_start = self._failed_to_start, []
            return failed
        busy = self._busy
        if not busy:
            return []
        waited = list({part for worker in busy for part in (worker.process.outcomes, worker.process.sentinel)})
        deadlines = [worker.deadline - time.monotonic() for worker in busy if worker.deadline is not None]
        limits = deadlines + ([seconds] if seconds is not None else [])
        ready = set(connection.wait(waited, max(0.0, min(limits)) if limits else None))
        return [outcome for worker in busy if (outcome := self._poll(worker, ready)) is not None]

    def _poll(self, worker: "_Worker", ready: set[Any]) -> tuple[str, TaskOutcome] | None:
        assert worker.task is not None
        node = worker.task.node
        if worker.process.outcomes in ready:
            try:
                message = worker.process.outcomes.recv()
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
            if worker.process.is_ending():
                worker.deadline = None
                return None
            self._retire(worker)
            return node, worker.fail(
                TidemillError(f"it exceeded its timeout of {worker.task.timeout} and was killed", RESUME)
            )
        worker.process.join()
        self._retire(worker)
        return node, worker.fail()

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

    def __init__(self, engine: str, kind: str, process: WorkerProcess) -> None:
        self.kind = kind
        self.process = process
        self.task: Task | None = None
        self.deadline: float | None = None
        self._executor = f"{engine}, {process.place}"
        self._log = Log()
        self._output_changed = threading.Condition()
        self._quiet = False
        threading.Thread(target=self._listen, args=(process.printed,), daemon=True).start()

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
            self.process.tasks.send_bytes(content)
        return None

    def start_timeout(self) -> None:
        """Start the timeout of the task, when the worker reports that the task starts."""
        if self.task is not None and self.task.timeout is not None:
            self.deadline = time.monotonic() + self.task.timeout.total_seconds() + GRACE_SECONDS

    def finish(self, outcome: TaskOutcome) -> TaskOutcome:
        self.task = self.deadline = None
        return replace(outcome, executor=self._executor, log=self._read_output() + outcome.log)

    def fail(self, error: TidemillError | None = None) -> TaskOutcome:
        """Return the outcome of the task of a process that has ended, by default with why it ended."""
        log = self._read_output()
        error = error or self.process.describe_end(log)
        return TaskOutcome(failure=TaskFailure(error.problem, "", error), executor=self._executor, log=log)

    def _read_output(self) -> str:
        """Return all text that the worker printed during its task."""
        with self._output_changed:
            self._output_changed.wait_for(lambda: self._quiet, timeout=GRACE_SECONDS)
            return self._log.text

    def _listen(self, printed: Any) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        rest = b""
        with suppress(OSError), printed:
            while content := os.read(printed.fileno(), 65_536):
                content = rest + content
                is_quiet = content.endswith(FINISHED)
                content, rest = content.removesuffix(FINISHED), b""
                if not is_quiet:
                    content, rest = _split_mark(content)
                text = decoder.decode(content, final=is_quiet)
                with suppress(OSError, ValueError):
                    sys.stderr.write(text)
                with self._output_changed:
                    self._log.add(text)
                    self._quiet = is_quiet
                    self._output_changed.notify_all()
        with self._output_changed:
            self._quiet = True
            self._output_changed.notify_all()

    def terminate(self) -> None:
        """Stop the process: kill a busy worker with the programs of its step, let an idle one exit."""
        if self.task is None:
            with suppress(OSError):
                self.process.tasks.send(None)
            self.process.join(GRACE_SECONDS)
        if self.process.is_alive():
            self.process.kill()
        elif self.task is not None:
            self.process.end_programs()
        self.process.tasks.close()
        self.process.outcomes.close()


def _split_mark(content: bytes) -> tuple[bytes, bytes]:
    """Return what a worker printed, and the beginning of the mark at its end, whose rest has not come yet."""
    for length in range(len(FINISHED) - 1, 0, -1):
        if content.endswith(FINISHED[:length]):
            return content[:-length], FINISHED[:length]
    return content, b""


def describe_exit(code: int | None) -> str:
    """Return how a process ended, by its exit code; that of a signal is negative."""
    if code is not None and code < 0:
        extra = " (out of memory?)" if code == -9 else ""
        return f"its process was killed by signal {-code}{extra}"
    return f"its process exited with code {code}"
