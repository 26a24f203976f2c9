"""Work: begins the run of a job in a process of its own, and tells from the ledger what became of it."""

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

Standing = Literal["absent", "alive", "dead", "interrupted", "over"]


class Worker(Protocol):
    """A process at work on a job."""

    def poll(self) -> int | None:
        """Its exit status, negative where a signal ended it; None while it is at work."""
        ...

    def send_signal(self, number: int, /) -> None: ...

    def wait(self, timeout: float | None = None, /) -> int: ...


def words_of(job: Job) -> list[str]:
    """The command that begins the run of a job, or goes on with it."""
    cause = msgspec.json.encode({"trigger": job.trigger, "event": job.event, "job": job.id}).decode()
    words = ["run", job.pipeline, "--env", job.environment, "--as", job.run, "--cause", cause, "--json"]
    params = {**job.params, **({"model": job.model} if job.model else {})}
    for name, value in params.items():
        words += ["--param", f"{name}={value}"]
    return words


def begin(session: Session, job: Job) -> Worker:
    """Begin a job's run in a session of its own: it outlives the daemon. What it says goes to a file."""
    said = _said_file(session, job)
    said.parent.mkdir(parents=True, exist_ok=True)
    with said.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "tidemill", *words_of(job)],
            cwd=session.project.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
        )


def standing(session: Session, job: Job) -> tuple[Standing, Run | None]:
    """How the run of a job is: not begun yet, at work, dead with its process, interrupted by somebody, or over."""
    workspace = session.workspace
    alive = workspace.run_locks.find_process(job.run) is not None
    try:
        run = workspace.ledger.runs.get(job.run)
    except NotFound:
        return ("alive" if alive else "absent"), None
    if run.state == "running":
        elsewhere = run.host.partition(":")[0] != session.host.partition(":")[0]
        return ("alive" if alive or elsewhere else "dead"), run
    if run.state == "interrupted":
        return ("alive" if alive else "interrupted" if run.interruption == "signal" else "dead"), run
    return "over", run


def last_words(session: Session, job: Job) -> str:
    """The last line that a job's process said."""
    with suppress(OSError):
        lines = _said_file(session, job).read_bytes()[-10_000:].decode(errors="replace").strip().splitlines()
        return lines[-1].removeprefix("error: ") if lines else ""
    return ""


def forget(session: Session, job: Job) -> None:
    """What a job's process said is not needed any more."""
    _said_file(session, job).unlink(missing_ok=True)


def interrupt(session: Session, job: Job, worker: Worker | None) -> None:
    """Ask the process of a job to end, so that its run can be gone on with."""
    process = session.workspace.run_locks.find_process(job.run)
    with suppress(ProcessLookupError, PermissionError):
        if worker is not None:
            worker.send_signal(signal.SIGINT)
        elif process is not None:
            os.kill(process, signal.SIGTERM)


def _said_file(session: Session, job: Job) -> Path:
    return session.workspace.state_folder / "jobs" / f"{job.run}.log"
