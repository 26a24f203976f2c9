"""The daemon: fires triggers and runs jobs; each job has exactly one run, also if the daemon is killed meanwhile."""

import signal
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from subprocess import TimeoutExpired

from msgspec import to_builtins
from msgspec.structs import replace

from tidemill.access.tokens import publish_tokens
from tidemill.core.event import JobPayload
from tidemill.core.run import Run
from tidemill.core.trigger import Job, JobState
from tidemill.daemon import work
from tidemill.daemon.attempts import Attempts
from tidemill.daemon.deliveries import DEPLOYMENT, Deliveries
from tidemill.daemon.heartbeat import Heartbeat, read_last_check
from tidemill.daemon.loop import to_job_state
from tidemill.daemon.notices import Notices
from tidemill.daemon.patience import Patience
from tidemill.daemon.readable import find_readable
from tidemill.daemon.reminders import Reminders
from tidemill.daemon.row_counts import RowCounts
from tidemill.daemon.triggers import Triggers
from tidemill.errors import ConfigurationError, Conflict, TidemillError
from tidemill.evidence.heads import export_from_settings
from tidemill.faults import maybe_crash
from tidemill.flow.engine import interrupt_dead
from tidemill.flow.session import Session
from tidemill.monitoring.alerts import alert_all
from tidemill.project.configuration import FILE, read_policy
from tidemill.project.names import BUILT_IN
from tidemill.registry.publication import publish_routes
from tidemill.upkeep.tidying import tidy

_PARALLEL_JOBS = 2
_MAX_DEATHS = 3
_MAX_ATTEMPTS = 12
_TIDY_SECONDS = 60.0
_TOKENS_SECONDS = 15.0
_KILL_SECONDS = 5.0

Notify = Callable[[str], None]
"""A callback that shows a message to the person who started the daemon."""
StartWorker = Callable[[Session, Job], work.Worker]


class Daemon:
    """The process that fires triggers and runs jobs, each in a separate process: a failing job delays no other.

    The daemon never imports the project's code; the workers do. It reads the state of a worker's run from the ledger,
    so another daemon can continue with workers that this one started.
    """

    def __init__(self, session: Session, notify: Notify, start_worker: StartWorker = work.start_worker) -> None:
        self._session = session
        self._books = session.workspace.ledger
        self._environment = session.workspace.environment
        self._notify = notify
        self._start_worker = start_worker
        self._patience = Patience(notify)
        self._running: dict[str, tuple[Job, work.Worker | None]] = {}
        self._tidied = session.clock.monotonic()
        self._is_stopping = False
        self._tokens_published = -_TOKENS_SECONDS
        self._ledger_file = _identify_ledger_file(session)
        self._policy_file = _stat_policy_file(session)
        self._resume_last_daemon()

    def _resume_last_daemon(self) -> None:
        """Continue from the time at which the last daemon checked for events."""
        session, books = self._session, self._books
        since = read_last_check(books, self._environment)
        policy = session.project.policy.in_environment(self._environment)
        self._triggers = Triggers(
            policy,
            books,
            session.clock,
            self._environment,
            since,
            Attempts(session).find_same_rows,
            self._report_damage,
        )
        self._row_counts = RowCounts(policy, books, session.clock, self._environment, self._triggers.emit)
        self._notices = Notices(session, policy, self._triggers)
        self._deliveries = Deliveries(session, self._triggers)
        self._reminders = Reminders(session)
        self._heartbeat = Heartbeat(books, session.clock, self._environment, session.host)

    def run_once(self) -> None:
        """Emit events, fire triggers, settle jobs that have finished, and start jobs that are due.

        An error in one part is reported, and the other parts run. Without a ledger, the daemon waits for it.
        """
        if not self._patience.attempt("ledger", self._adopt_jobs):
            return
        parts = {
            "policy": self._check_policy_file,
            "stores": self._session.workspace.require_stores,
            "new data": lambda: self._triggers.emit_data_events(self._session.sources),
            "new rows": lambda: self._row_counts.emit_events(self._session.workspace.journal),
            "code and packages": self._notices.emit_events,
            "triggers": self._fire_triggers,
            "deliveries": self._create_deliveries,
            "jobs": self._follow_jobs,
            "new jobs": self._start_jobs,
            "routes": self._publish_routes,
            "tokens": self._publish_tokens,
            "journal": self._tidy_journal,
            "reminders": self._remind,
            "heartbeat": lambda: self._heartbeat.beat(self._triggers.last_check),
        }
        for name, part in parts.items():
            self._patience.attempt(name, part)

    def stop(self) -> None:
        """Interrupt the workers, and kill those that do not end; the next daemon resumes their runs."""
        self._is_stopping = True
        for job, worker in self._running.values():
            work.interrupt(self._session, job, worker)
        monotonic = self._session.clock.monotonic
        deadline = monotonic() + self._session.project.policy.shutdown.seconds / 3
        for _, worker in self._running.values():
            if worker is not None:
                _wait_or_kill(worker, max(0.0, deadline - monotonic()))
        self._patience.attempt("ledger", self._record_stop)

    def _record_stop(self) -> None:
        for job, worker in self._running.values():
            if worker is not None and worker.poll() is not None:
                interrupt_dead(self._session, job.run)
        self._follow_jobs()
        self._heartbeat.stop(self._triggers.last_check)

    def _adopt_jobs(self) -> None:
        """Follow the jobs that an earlier daemon started."""
        self._check_ledger_file()
        for job in find_readable(self._books.jobs, self._report_damage, state="running"):
            if job.environment == self._environment and job.id not in self._running:
                self._running[job.id] = job, None

    def _report_damage(self, message: str) -> None:
        self._notify(f"daemon: {message}")

    def _check_ledger_file(self) -> None:
        """Check that the ledger file was not deleted or replaced: writes to a deleted file succeed, but are lost."""
        identity = _identify_ledger_file(self._session)
        if identity == self._ledger_file:
            return
        if identity is None:
            raise TidemillError(
                f"the ledger file {self._session.workspace.ledger_file} is missing; the service continues to predict",
                "move the file back, or restore a backup: the daemon then continues without a restart",
            )
        self._books.close()
        self._running.clear()
        self._resume_last_daemon()
        self._ledger_file = identity
        self._notify("daemon: the ledger file was replaced; the daemon continues with the new one")

    def _check_policy_file(self) -> None:
        """Report a changed policy: runs use the new policy, but triggers use the one that the daemon started with."""
        policy_file = _stat_policy_file(self._session)
        if policy_file == self._policy_file:
            return
        self._policy_file = policy_file
        project = self._session.project
        try:
            if read_policy(project.folder / FILE) == project.policy:
                return
            message = f"{FILE} has changed"
        except ConfigurationError as invalid:
            message = str(invalid)
        self._notify(
            f"daemon: {message}; triggers still use the previous version: restart the daemon to apply the change"
        )

    def _remind(self) -> None:
        for line in self._reminders.list_new():
            self._notify(line)

    def _fire_triggers(self) -> None:
        for job in self._triggers.fire():
            self._notify(f"{job.trigger}: {job.pipeline} is due")

    def _create_deliveries(self) -> None:
        for message in self._deliveries.create_jobs():
            self._notify(message)

    def _start_jobs(self) -> None:
        busy = {self._find_model(job) for job, _ in self._running.values()} - {""}
        now = self._session.clock.now()
        for job in find_readable(self._books.jobs, self._report_damage, state="waiting"):
            if len(self._running) >= _PARALLEL_JOBS:
                return
            is_due = job.environment == self._environment and self._triggers.is_due(job, now)
            if not is_due or self._find_model(job) in busy or not self._triggers.may_start(job):
                continue
            try:
                claimed = self._books.jobs.change(job.id, self._claim)
            except Conflict:
                continue
            maybe_crash("job is claimed")
            busy |= {self._find_model(job)} - {""}
            self._running[job.id] = claimed, None
            try:
                self._running[job.id] = claimed, self._start_worker(self._session, claimed)
            except (OSError, ValueError) as error:  # one job that cannot start delays no other
                self._notify(f"daemon: {job.pipeline} cannot be started: {error}")
                self._retry_or_fail(claimed, claimed.deaths + 1)
                continue
            maybe_crash("worker is started")

    def _find_model(self, job: Job) -> str:
        """Return the model of a job, or the only model of the project; jobs of one model run one after another.

        CI changes no model, so a training does not wait for it. Pushes are built one after another, so that the last
        build of a branch is of its newest commit. Deployments to one environment run one after another, too.
        """
        if job.pipeline == DEPLOYMENT:
            return f"{DEPLOYMENT} to {job.params.get('environment', '')}"
        if job.pipeline in BUILT_IN:
            return f"pipeline {job.pipeline}"
        models = self._session.project.policy.models
        return job.model or (next(iter(models)) if len(models) == 1 else "")

    def _claim(self, job: Job) -> Job:
        if job.state != "waiting":
            raise Conflict(f"job {job.id} is {job.state}", "another process has changed it")
        run = job.run or self._session.clock.mint()
        return replace(job, state="running", attempts=job.attempts + 1, run=run, owner=self._session.host)

    def _follow_jobs(self) -> None:
        """Settle the jobs whose processes have finished."""
        for job, worker in list(self._running.values()):
            status = worker.poll() if worker is not None else None
            if worker is not None and status is None:
                continue
            run_state, run = work.find_run_state(self._session, job)
            if run_state == "running":
                self._running[job.id] = job, None
            elif run_state == "finished":
                assert run is not None
                self._settle(job, to_job_state(run), run.error)
            elif run_state == "interrupted":
                self._settle(job, "waiting", deaths=job.deaths)
            elif run_state == "dead":
                assert run is not None
                self._retry_or_fail(job, max(job.deaths, _count_deaths(run)))
            elif status is not None and self._is_stopping:
                self._settle(job, "waiting", deaths=job.deaths)
            elif status == 2:
                self._settle(job, "failed", work.read_last_line(self._session, job))
            else:
                self._retry_or_fail(job, job.deaths + (status is not None))

    def _retry_or_fail(self, job: Job, deaths: int) -> None:
        """Schedule another attempt of a job whose process died; fail it after too many."""
        if deaths < _MAX_DEATHS and job.attempts < _MAX_ATTEMPTS:
            self._settle(job, "waiting", deaths=deaths)
            return
        last_line = work.read_last_line(self._session, job)
        self._settle(
            job, "failed", f"its process died {deaths} times" + (f": {last_line}" if last_line else ""), deaths
        )

    def _settle(self, job: Job, state: JobState, error: str = "", deaths: int | None = None) -> None:
        """Write the state of a job; for a failed job, also emit an event and an alert."""
        clock = self._session.clock
        is_retry = state == "waiting"
        delay = timedelta(seconds=2**job.attempts if is_retry and deaths else 0)
        changes = {"state": state, "error": error, "deaths": job.deaths if deaths is None else deaths}
        if is_retry:
            changes["available"] = clock.now() + delay
        with self._books.transaction(durable=True):
            settled = self._books.jobs.change(
                job.id, lambda current: replace(current, **changes) if current.state == "running" else current
            )
            if state == "failed":
                payload = JobPayload(
                    state=state,
                    pipeline=job.pipeline,
                    model=job.model,
                    reason=error,
                    trigger=job.trigger,
                    run=job.run,
                )
                self._triggers.emit("job", job.pipeline, f"job/{job.id}", clock.now(), to_builtins(payload))
        maybe_crash("job is settled")
        del self._running[job.id]
        work.delete_output(self._session, job)
        self._notify(f"{job.pipeline} {settled.state}" + (f": {error}" if error else ""))
        self._export_audit_head()
        if state == "stopped":
            self._reminders.alert_stopped_batches(job)
        if state == "failed":
            policy = self._session.project.policy
            runs = job.run and self._books.runs.find(id=job.run, limit=1)
            cure = f"; resume it: `tidemill runs resume {job.run[:18]}`" if runs else ""
            alert_all(policy, self._books, clock, self._environment, job.model, f"job {job.pipeline}", error + cure)

    def _export_audit_head(self) -> None:
        """Sign and export the head of the audit log, if a key is set: a run may have promoted a build or a model."""
        session = self._session
        export_from_settings(self._books, session.project.name, session.clock, session.workspace.root, self._notify)

    def _publish_tokens(self) -> None:
        """Publish tokens that are in the ledger but not on the board, because their process died in between."""
        now = self._session.clock.monotonic()
        if now - self._tokens_published >= _TOKENS_SECONDS:
            publish_tokens(self._books, [self._session.workspace.board])
            self._tokens_published = now

    def _publish_routes(self) -> None:
        """Publish routes that are in the ledger but not on the board, because their process died in between."""
        for route in publish_routes(self._books, self._session.workspace.board, self._environment):
            self._notify(
                f"published route {route.version} of model {route.model}, which was in the ledger but not in production"
            )

    def _tidy_journal(self) -> None:
        """Merge the journal's files, and delete rows that are older than the policy's retention."""
        clock = self._session.clock
        if clock.monotonic() - self._tidied < _TIDY_SECONDS:
            return
        self._tidied = clock.monotonic()
        deleted = tidy(self._session.workspace.journal, self._session.project.policy.retention, clock.now())
        for kind, count in deleted.items():
            self._notify(f"deleted {count} rows of the journal {kind}: they are older than [retention] allows")


def _count_deaths(run: Run) -> int:
    """Return the number of attempts of a run whose process died, including the last one."""
    return 1 + sum(attempt.state == "interrupted" and attempt.interruption != "signal" for attempt in run.attempts)


def _wait_or_kill(worker: work.Worker, seconds: float) -> None:
    try:
        worker.wait(seconds)
    except TimeoutExpired:
        worker.send_signal(signal.SIGKILL)
        with suppress(TimeoutExpired):
            worker.wait(_KILL_SECONDS)


def _stat_policy_file(session: Session) -> tuple[int, int] | None:
    """Return the modification time and the size of tidemill.toml; None if it is missing."""
    try:
        status = (session.project.folder / FILE).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _identify_ledger_file(session: Session) -> tuple[int, int] | None:
    """Return the device and the inode of the ledger file; None if it is missing, zeros if the ledger is no file."""
    file = session.workspace.ledger_file
    if file is None:
        return 0, 0
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino
