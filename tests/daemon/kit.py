"""A small project for daemons in tests: no model, short pipelines, and workers that run in the same process."""

from pathlib import Path
from typing import Any

from tidemill.compose.session import open_session
from tidemill.core.trigger import Job
from tidemill.daemon.work import Worker
from tidemill.flow.engine import run_once
from tidemill.flow.session import Session
from tidemill.flow.stated import read_params
from tidemill.project.project import Project

POLICY = """\
[project]
name = "kit"

[sources.rows]
path = "data/*.csv"
"""
VISIT = '[[triggers]]\nname = "visit"\non = "visit"\npipeline = "noting"\nbudget = 1000\n'
CODE = "from tests.daemon.killing_pipeline import judging, noting, training\n"


def kit(folder: Path, triggers: str = VISIT) -> Session:
    """Create a project with these triggers, and return a session."""
    (folder / "data").mkdir(parents=True)
    (folder / "tidemill.toml").write_text(POLICY + triggers)
    (folder / "pipeline.py").write_text(CODE)
    return open_session(Project(folder), "test")


class FinishedWorker:
    """A worker that has finished with a status."""

    def __init__(self, status: int) -> None:
        self.status = status

    def poll(self) -> int:
        return self.status

    def send_signal(self, _: int) -> None:
        raise ProcessLookupError

    def wait(self, _: float | None = None) -> int:
        return self.status


def run_in_place(session: Session, job: Job) -> Worker:
    """Run a job in this process."""
    cause: dict[str, Any] = {"trigger": job.trigger, "event": job.event, "job": job.id}
    run_once(session, job.run, job.pipeline, read_params(job.params), cause=cause)
    return FinishedWorker(0)
