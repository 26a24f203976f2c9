"""The daemon: fires triggers, and sees each job through to the end of its one run, across its own death."""

import signal
from collections.abc import Callable
from datetime import timedelta
from subprocess import TimeoutExpired

from msgspec import to_builtins
from msgspec.structs import replace

from tidemill.core.event import JobPayload
from tidemill.core.run import Run
from tidemill.core.trigger import Job, JobState
from tidemill.daemon import work
from tidemill.daemon.heartbeat import Heartbeat, looked
from tidemill.daemon.loop import to_job_state
from tidemill.daemon.notices import Notices
from tidemill.daemon.patience import Patience
from tidemill.daemon.triggers import Triggers
from tidemill.errors import ConfigurationError, Conflict, TidemillError
from tidemill.faults import maybe_crash
from tidemill.flow.session import Session
from tidemill.monitoring.alerts import alert_all
from tidemill.project.configuration import FILE, read_policy
from tidemill.upkeep.tidying import tidy

_AT_ONCE = 2
_DEATHS = 3
_ATTEMPTS = 12
_TIDY = 60.0
_END = 10.0

Begin = Callable[[Session, Job], work.Worker]


class Daemon:
    """Fires triggers and works on jobs, each in a process of its own: a failing one delays no other.

    The daemon never imports the project's code; the child does. What a child does is read from the ledger, so that it
    does not matter which daemon began it.
    """

    def __init__(self, session: Session, told: Callable[[str], None], begin: Begin = work.begin) -> None:
        self._session = session
        self._books = session.workspace.ledger
        self._environment = session.workspace.environment
        self._told = told
        self._begin = begin
        self._patience = Patience(told)
        self._running: dict[str, tuple[Job, work.Worker | None]] = {}
        self._tidied = session.clock.monotonic()
        self._file = _identity(session)
        self._stated = _stated(session)
        self._take_over()

    def _take_over(self) -> None:
        """Go on where the last daemon was."""
        session, books = self._session, self._books
        since = looked(books, self._environment)
        self._triggers = Triggers(session.project.policy, books, session.clock, self._environment, since)
        self._notices = Notices(session, self._triggers)
        self._heartbeat = Heartbeat(books, session.clock, self._environment, session.host)

    def turn(self) -> None:
        """Notice, fire, take in what has ended, start what is due; a fault of one part is told, and the rest goes on.

        Where the ledger is away, the daemon waits for it.
        """
        if not self._patience.attempt("ledger", self._adopt):
            return
        parts = {
            "policy": self._look_at_the_policy,
            "new data": lambda: self._triggers.emit_data_events(self._session.sources),
            "code and packages": self._notices.notice,
            "triggers": self._fire,
            "jobs": self._follow,
            "new jobs": self._start,
            "routes": self._publish,
            "journal": self._tidy,
            "heartbeat": lambda: self._heartbeat.beat(self._triggers.looked),
        }
        for name, part in parts.items():
            self._patience.attempt(name, part)

    def end(self) -> None:
        """Ask the children to stop, and let their jobs wait for the next daemon, which goes on with their runs."""
        for job, worker in self._running.values():
            work.interrupt(self._session, job, worker)
        for _, worker in self._running.values():
            if worker is not None:
                _await(worker)
        self._patience.attempt("ledger", self._leave)

    def _leave(self) -> None:
        self._follow()
        self._heartbeat.end(self._triggers.looked)

    def _adopt(self) -> None:
        """Take up jobs that a daemon before this one left at work."""
        self._look_at_the_ledger()
        for job in self._books.jobs.find(state="running"):
            if job.environment == self._environment and job.id not in self._running:
                self._running[job.id] = job, None

    def _look_at_the_ledger(self) -> None:
        """A file that was deleted can be written on, and nobody would ever read it."""
        identity = _identity(self._session)
        if identity == self._file:
            return
        if identity is None:
            raise TidemillError(
                f"the ledger at {self._session.workspace.ledger_file} is gone; predictions go on",
                "put it back, or restore a backup: the daemon goes on by itself",
            )
        self._books.close()
        self._running.clear()
        self._take_over()
        self._file = identity
        self._told("daemon: the ledger was replaced: going on with what it says")

    def _look_at_the_policy(self) -> None:
        """Triggers go by the policy as it was when this began, and runs by what it says now: that must be known."""
        stated = _stated(self._session)
        if stated == self._stated:
            return
        self._stated = stated
        project = self._session.project
        try:
            if read_policy(project.folder / FILE) == project.policy:
                return
            said = f"{FILE} has changed"
        except ConfigurationError as wrong:
            said = str(wrong)
        self._told(f"daemon: {said}; triggers go on by what it said before: to go by it, end this and start it again")

    def _fire(self) -> None:
        for job in self._triggers.fire():
            self._told(f"{job.trigger}: {job.pipeline} is due")

    def _start(self) -> None:
        busy = {self._model_of(job) for job, _ in self._running.values()} - {""}
        now = self._session.clock.now()
        for job in self._books.jobs.find(state="waiting"):
            if len(self._running) >= _AT_ONCE:
                return
            mine = job.environment == self._environment and job.available <= now
            if not mine or self._model_of(job) in busy or not self._triggers.may_start(job):
                continue
            try:
                claimed = self._books.jobs.change(job.id, self._claimed)
            except Conflict:
                continue
            maybe_crash("job is claimed")
            busy |= {self._model_of(job)} - {""}
            self._running[job.id] = claimed, None
            self._running[job.id] = claimed, self._begin(self._session, claimed)
            maybe_crash("worker is begun")

    def _model_of(self, job: Job) -> str:
        """The model that a job works on, of which one does at a time: the only one where it names none."""
        models = self._session.project.policy.models
        return job.model or (next(iter(models)) if len(models) == 1 else "")

    def _claimed(self, job: Job) -> Job:
        if job.state != "waiting":
            raise Conflict(f"job {job.id} is {job.state}", "somebody else has decided on it")
        run = job.run or self._session.clock.mint()
        return replace(job, state="running", attempts=job.attempts + 1, run=run, owner=self._session.host)

    def _follow(self) -> None:
        """Take in what became of the jobs whose processes have ended."""
        for job, worker in list(self._running.values()):
            status = worker.poll() if worker is not None else None
            if worker is not None and status is None:
                continue
            standing, run = work.standing(self._session, job)
            if standing == "alive":
                self._running[job.id] = job, None
            elif standing == "over":
                assert run is not None
                self._settle(job, to_job_state(run), run.error)
            elif standing == "interrupted":
                self._settle(job, "waiting", deaths=job.deaths)
            elif standing == "dead":
                assert run is not None
                self._died(job, max(job.deaths, _deaths_of(run)))
            elif status == 2:
                self._settle(job, "failed", work.last_words(self._session, job))
            else:
                self._died(job, job.deaths + (status is not None))

    def _died(self, job: Job, deaths: int) -> None:
        """Let a job wait for another try, but not for ever."""
        if deaths < _DEATHS and job.attempts < _ATTEMPTS:
            self._settle(job, "waiting", deaths=deaths)
            return
        said = work.last_words(self._session, job)
        self._settle(job, "failed", f"its process died {deaths} times" + (f": {said}" if said else ""), deaths)

    def _settle(self, job: Job, state: JobState, error: str = "", deaths: int | None = None) -> None:
        """Write what became of a job; one that failed is told as an event, too."""
        clock = self._session.clock
        again = state == "waiting"
        pause = timedelta(seconds=2**job.attempts if again and deaths else 0)
        facts = {"state": state, "error": error, "deaths": job.deaths if deaths is None else deaths}
        if again:
            facts["available"] = clock.now() + pause
        with self._books.transaction(durable=True):
            settled = self._books.jobs.change(job.id, lambda j: replace(j, **facts) if j.state == "running" else j)
            if state == "failed":
                payload = JobPayload(
                    state=state,
                    pipeline=job.pipeline,
                    model=job.model,
                    reason=error,
                    trigger=job.trigger,
                    run=job.run,
                )
                self._triggers.tell("job", job.pipeline, f"job/{job.id}", clock.now(), to_builtins(payload))
        maybe_crash("job is settled")
        del self._running[job.id]
        work.forget(self._session, job)
        self._told(f"{job.pipeline} {settled.state}" + (f": {error}" if error else ""))
        if state == "failed":
            policy = self._session.project.policy
            begun = job.run and self._books.runs.find(id=job.run, limit=1)
            cure = f"; to go on with it: `tidemill runs resume {job.run[:18]}`" if begun else ""
            alert_all(policy, self._books, clock, self._environment, job.model, f"job {job.pipeline}", error + cure)

    def _publish(self) -> None:
        """Publish routes that were written by somebody who died before they were served."""
        board = self._session.workspace.board
        shown = board.routes()
        for model in self._session.project.policy.models:
            newest = self._books.routes.find(environment=self._environment, model=model, newest=True, limit=3)
            route = max(newest, key=lambda one: one.version, default=None)
            if route is not None and (model not in shown or shown[model].version < route.version):
                board.publish(route)
                self._told(f"the route of {model} was written, but not served: it is now")

    def _tidy(self) -> None:
        """Keep the journal in few pieces, and no longer than the policy says."""
        clock = self._session.clock
        if clock.monotonic() - self._tidied < _TIDY:
            return
        self._tidied = clock.monotonic()
        gone = tidy(self._session.workspace.journal, self._session.project.policy.retention, clock.now())
        for kind, count in gone.items():
            self._told(f"{count} rows of the journal {kind} were forgotten, as [retention] says")


def _deaths_of(run: Run) -> int:
    """How many tries of a run, of which the last one is dead, ended with their process."""
    return 1 + sum(one.state == "interrupted" and one.interruption != "signal" for one in run.attempts)


def _await(worker: work.Worker) -> None:
    try:
        worker.wait(_END)
    except TimeoutExpired:
        worker.send_signal(signal.SIGKILL)
        worker.wait(_END)


def _stated(session: Session) -> tuple[int, int] | None:
    """When tidemill.toml was written, and how long it is; None where it is gone."""
    try:
        status = (session.project.folder / FILE).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _identity(session: Session) -> tuple[int, int] | None:
    """Which file the ledger is, where it is one; None where it is gone."""
    file = session.workspace.ledger_file
    if file is None:
        return 0, 0
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
