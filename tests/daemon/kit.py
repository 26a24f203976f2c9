"""A small project for daemons in tests: no model, pipelines that end at once, and workers that work in place."""

from pathlib import Path
from typing import Any

from tidemill.compose.session import open_session
from tidemill.core.trigger import Job
from tidemill.daemon.work import Worker
from tidemill.flow.engine import run_once
from tidemill.flow.session import Session
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
    """A session on a new project with these triggers."""
    (folder / "data").mkdir(parents=True)
    (folder / "tidemill.toml").write_text(POLICY + triggers)
    (folder / "pipeline.py").write_text(CODE)
    return open_session(Project(folder), "test")


class Ended:
    """A worker that has ended, in its own way."""

    def __init__(self, status: int) -> None:
        self.status = status

    def poll(self) -> int:
        return self.status

    def send_signal(self, _: int) -> None:
        raise ProcessLookupError

    def wait(self, _: float | None = None) -> int:
        return self.status


def in_place(session: Session, job: Job) -> Worker:
    """Do a job's run here and now."""
    cause: dict[str, Any] = {"trigger": job.trigger, "event": job.event, "job": job.id}
    run_once(session, job.run, job.pipeline, job.params, cause=cause)
    return Ended(0)
