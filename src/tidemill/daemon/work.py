"""Work: start the run of a job in a separate process, and read the state of the run from the ledger."""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from tidemill.core.run import Run
from tidemill.core.trigger import Job
from tidemill.errors import NotFound
from tidemill.flow.session import Session

JobRunState = Literal["absent", "running", "dead", "interrupted", "finished"]


class Worker(Protocol):
    """A process that runs a job."""

    def poll(self) -> int | None:
        """Return the exit status, negative if a signal stopped the process; None while it is running."""
        ...

    def send_signal(self, number: int, /) -> None: ...

    def wait(self, timeout: float | None = None, /) -> int: ...


def build_command(job: Job) -> list[str]:
    """Return the arguments of the command that starts or resumes the run of a job; it reads the job's parameters."""
    cause = msgspec.json.encode({"trigger": job.trigger, "event": job.event, "job": job.id}).decode()
    arguments = ["run", job.pipeline, "--env", job.environment, "--as", job.run, "--cause", cause, "--json"]
    return [*arguments, "--job", job.id]


def start_worker(session: Session, job: Job) -> Worker:
    """Start a job's run in a new process session, so that it outlives the daemon; its stderr is written to a file."""
    output = _find_output_file(session, job)
    session.workspace.require_root()
    output.parent.mkdir(mode=0o700, exist_ok=True)
    with output.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "tidemill", *build_command(job)],
            cwd=session.project.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
        )


def find_run_state(session: Session, job: Job) -> tuple[JobRunState, Run | None]:
    """Return the state of a job's run: absent, running, dead with its process, interrupted, or finished."""
    workspace = session.workspace
    is_alive = workspace.run_locks.is_running(job.run)
    try:
        run = workspace.ledger.runs.get(job.run)
    except NotFound:
        return ("running" if is_alive else "absent"), None
    if run.state == "running":
        is_known = workspace.run_locks.are_shared
        is_elsewhere = not is_known and run.host.partition(":")[0] != session.host.partition(":")[0]
        is_alive = is_alive or is_elsewhere or not workspace.run_locks.has_died(job.run)
        return ("running" if is_alive else "dead"), run
    if run.state == "interrupted":
        return ("running" if is_alive else "interrupted" if run.interruption == "signal" else "dead"), run
    return "finished", run


def read_last_line(session: Session, job: Job) -> str:
    """Return the last line that a job's process wrote to stderr."""
    with suppress(OSError):
        lines = _find_output_file(session, job).read_bytes()[-10_000:].decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("error: ") if lines else ""
    return ""


def delete_output(session: Session, job: Job) -> None:
    """Delete the file with the output of a job's process."""
    _find_output_file(session, job).unlink(missing_ok=True)


def interrupt(session: Session, job: Job, worker: Worker | None) -> None:
    """Interrupt the process of a job, so that its run can be resumed."""
    process = session.workspace.run_locks.find_process(job.run)
    with suppress(ProcessLookupError, PermissionError):
        if worker is not None:
            worker.send_signal(signal.SIGINT)
        elif process is not None:
            os.kill(process, signal.SIGTERM)


def _find_output_file(session: Session, job: Job) -> Path:
    return session.workspace.state_folder / "jobs" / f"{job.run}.log"
