"""The daemon's loop of a replay: the same triggers and pipelines, one job after the other."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from msgspec.structs import replace

from tidemill.core.run import Run
from tidemill.core.trigger import Job, JobState
from tidemill.daemon.attempts import Attempts
from tidemill.daemon.row_counts import RowCounts
from tidemill.daemon.triggers import Triggers
from tidemill.flow.session import Session

Work = Callable[[Job], tuple[JobState, str, str]]
"""A function that runs a job and returns its state, the id of its run, and an error."""


class Loop:
    """The loop that creates jobs from events and runs the jobs that are due with `work`.

    `delay` returns the time at which a new job becomes due.
    """

    def __init__(self, session: Session, work: Work, delay: Callable[[Job], datetime] | None = None) -> None:
        self._session = session
        self._books = session.workspace.ledger
        self._work = work
        self._delay = delay or (lambda job: job.available)
        policy, environment = session.project.policy, session.workspace.environment
        self.triggers = Triggers(
            session.project.policy,
            self._books,
            session.clock,
            session.workspace.environment,
            find_same_rows=Attempts(session).find_same_rows,
        )
        self.row_counts = RowCounts(policy, self._books, session.clock, environment, self.triggers.emit)

    def run_once(self) -> list[Job]:
        """Emit events for new data, fire triggers, and run jobs until none is due; return the jobs that ran."""
        done: list[Job] = []
        self.triggers.emit_data_events(self._session.sources)
        self.row_counts.emit_events(self._session.workspace.journal)
        while True:
            for job in self.triggers.fire():
                self._postpone(job)
            due = [job for job in self.list_waiting_jobs() if job.available <= self._session.clock.now()]
            if not due:
                return done
            done += [self._run_job(job) for job in due]

    def request_job(self, pipeline: str, model: str, params: dict[str, Any], key: str) -> Job:
        """Create a job that a person requested; it has the same delay as any other job."""
        return self._postpone(self.triggers.create_manual_job(pipeline, model, params, key))

    def list_waiting_jobs(self) -> list[Job]:
        """Return the waiting jobs, oldest first."""
        return self._books.jobs.find(state="waiting")

    def _postpone(self, job: Job) -> Job:
        available = self._delay(job)
        return self._books.jobs.change(job.id, lambda current: replace(current, available=available))

    def _run_job(self, job: Job) -> Job:
        job = self._books.jobs.change(
            job.id, lambda current: replace(current, state="running", attempts=current.attempts + 1)
        )
        state, run, error = self._work(job)
        return self._books.jobs.change(job.id, lambda current: replace(current, state=state, run=run, error=error))


def to_job_state(run: Run) -> JobState:
    """Return the state of a job for the state of its run."""
    states: dict[str, JobState] = {"done": "done", "stopped": "stopped", "cancelled": "cancelled"}
    return states.get(run.state, "failed")
