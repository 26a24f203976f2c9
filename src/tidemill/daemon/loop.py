"""The daemon of a replay: it notices, fires and works by the same triggers and pipelines, one job after the other."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from tidemill.core.run import Run
from tidemill.core.trigger import Job, JobState
from tidemill.daemon.triggers import Triggers
from tidemill.flow.session import Session

Work = Callable[[Job], tuple[JobState, str, str]]


class Loop:
    """Turns events into jobs and hands jobs that are due to `work`, which returns state, run id and error."""

    def __init__(self, session: Session, work: Work, delay: Callable[[Job], datetime] | None = None) -> None:
        self._session = session
        self._books = session.workspace.ledger
        self._work = work
        self._delay = delay or (lambda job: job.available)
        self.triggers = Triggers(session.project.policy, self._books, session.clock, session.workspace.environment)

    def turn(self) -> list[Job]:
        """Notice new data, fire triggers, and work on what is due, until nothing is; the jobs that were done."""
        done: list[Job] = []
        self.triggers.notice(self._session.sources)
        while True:
            for job in self.triggers.fire():
                self._put_off(job)
            due = [job for job in self.waiting() if job.available <= self._session.clock.now()]
            if not due:
                return done
            done += [self._do(job) for job in due]

    def ask(self, pipeline: str, model: str, params: dict[str, Any], key: str) -> Job:
        """A job that somebody asks for; it takes as long as any other."""
        return self._put_off(self.triggers.by_hand(pipeline, model, params, key))

    def waiting(self) -> list[Job]:
        """The jobs that wait, oldest first."""
        return self._books.jobs.find(state="waiting")

    def _put_off(self, job: Job) -> Job:
        available = self._delay(job)
        return self._books.jobs.change(job.id, lambda j: replace(j, available=available))

    def _do(self, job: Job) -> Job:
        job = self._books.jobs.change(job.id, lambda j: replace(j, state="running", attempts=j.attempts + 1))
        state, run, error = self._work(job)
        return self._books.jobs.change(job.id, lambda j: replace(j, state=state, run=run, error=error))


def state_of_job(run: Run) -> JobState:
    """What a run's end means for the job that started it."""
    states: dict[str, JobState] = {"done": "done", "stopped": "stopped", "cancelled": "cancelled"}
    return states.get(run.state, "failed")
