"""The engine `processes`: runs steps in parallel in a pool of processes on this machine."""

import multiprocessing

from tidemill.errors import TidemillError
from tidemill.flow.engines.pool import RESUME, PoolEngine, describe_exit
from tidemill.flow.engines.worker import work
from tidemill.flow.session import Session
from tidemill.flow.tasks import Task
from tidemill.host.programs import end_programs_of_dead_worker, end_worker


def open_process_engine(session: Session) -> PoolEngine:
    """Return the engine of a session."""
    return PoolEngine("processes", ProcessLauncher(session))


class ProcessLauncher:
    """Starts fresh processes of this Python."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def choose_kind(self, task: Task) -> str:  # noqa: ARG002 - all tasks run in equal processes
        return ""

    def launch(self, kind: str) -> "SpawnedProcess":  # noqa: ARG002
        return SpawnedProcess(self._session)


class SpawnedProcess:
    """A process that `multiprocessing` starts; its pipe is both for tasks and for outcomes."""

    def __init__(self, session: Session) -> None:
        fresh = multiprocessing.get_context("spawn")
        self.tasks, worker_pipe = fresh.Pipe()
        self.outcomes = self.tasks
        self.printed, worker_output = fresh.Pipe(duplex=False)
        self._process = fresh.Process(target=work, args=(session.reopen, worker_pipe, worker_output))
        self._process.start()
        worker_pipe.close()
        worker_output.close()
        self.sentinel = self._process.sentinel
        self.place = f"process {self._process.pid}"

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def is_ending(self) -> bool:
        return False

    def join(self, seconds: float | None = None) -> None:
        self._process.join(seconds)

    def kill(self) -> None:
        if self._process.pid is not None:
            end_worker(self._process.pid)
        self._process.join()

    def end_programs(self) -> None:
        if self._process.pid is not None:
            end_programs_of_dead_worker(self._process.pid)

    def describe_end(self, printed: str) -> TidemillError:  # noqa: ARG002 - its exit code suffices
        return TidemillError(describe_exit(self._process.exitcode), RESUME)
