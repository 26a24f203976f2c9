"""`tidemill up`: the daemon and the prediction service, until they are told to end."""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import IO, Any

import msgspec
from msgspec.structs import replace

from tidemill.core.trigger import Job
from tidemill.daemon.lease import take_lease
from tidemill.daemon.pages import Pages
from tidemill.daemon.triggers import Triggers
from tidemill.errors import TidemillError
from tidemill.flow.session import Session
from tidemill.serving.server import HttpServer
from tidemill.store.journal import tidy
from tidemill.telemetry import logger

log = logger("daemon")
_TICK = 1.0
_AT_ONCE = 2
_ATTEMPTS = 3
_TIDY = 60.0


class Daemon:
    """Fires triggers and works on jobs, each in a child process: a failing one delays no other.

    The daemon never imports the project's code; the child does.
    """

    def __init__(self, session: Session, told: Callable[[str], None]) -> None:
        self._session = session
        self._books = session.workspace.ledger
        self._told = told
        self._triggers = Triggers(session.project.policy, self._books, session.clock, session.workspace.environment)
        self._running: dict[str, tuple[Job, Any]] = {}
        self._tidied = session.clock.monotonic()

    def recover(self) -> None:
        """Let jobs that a daemon before us left running wait again: nobody else has the lease."""
        for job in self._books.jobs.find(state="running"):
            if job.environment == self._session.workspace.environment:
                self._books.jobs.change(
                    job.id, lambda j: replace(j, state="waiting" if j.attempts < _ATTEMPTS else "failed")
                )

    def turn(self) -> None:
        """Notice, fire, start what is due, and take in what has ended; a fault of one is told, and the rest goes on."""
        for part in (self._notice, self._fire, self._reap, self._start, self._tidy):
            try:
                part()
            except TidemillError as fault:
                self._told(f"daemon: {fault}")
            except Exception:
                log.exception("a part of this turn failed; the next turn comes")

    def _notice(self) -> None:
        self._triggers.notice(self._session.sources)

    def _fire(self) -> None:
        for job in self._triggers.fire():
            self._told(f"{job.trigger}: {job.pipeline} is due")

    def _start(self) -> None:
        busy = {job.model for job, _ in self._running.values()}
        for job in self._books.jobs.find(state="waiting", limit=50):
            if len(self._running) >= _AT_ONCE:
                return
            if job.environment != self._session.workspace.environment or job.available > self._session.clock.now():
                continue
            if job.model in busy and job.model:
                continue
            busy.add(job.model)
            self._running[job.id] = (
                self._books.jobs.change(job.id, lambda j: replace(j, state="running", attempts=j.attempts + 1)),
                self._child(job),
            )

    def _tidy(self) -> None:
        """Keep the journal in few pieces, and no longer than the policy says."""
        clock = self._session.clock
        if clock.monotonic() - self._tidied < _TIDY:
            return
        self._tidied = clock.monotonic()
        gone = tidy(self._session.workspace.journal, self._session.project.policy.retention, clock.now())
        for kind, count in gone.items():
            self._told(f"{count} rows of the journal {kind} were forgotten, as [retention] says")

    def _child(self, job: Job) -> Any:
        cause = msgspec.json.encode({"trigger": job.trigger, "event": job.event, "job": job.id}).decode()
        params = [f"{name}={value}" for name, value in job.params.items()]
        if job.model:
            params.append(f"model={job.model}")
        words = [
            sys.executable,
            "-m",
            "tidemill",
            "run",
            job.pipeline,
            "--env",
            job.environment,
            "--cause",
            cause,
            "--json",
        ]
        for param in params:
            words += ["--param", param]
        return subprocess.Popen(
            words,
            cwd=self._session.project.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _reap(self) -> None:
        for identifier, (job, child) in list(self._running.items()):
            if child.poll() is None:
                continue
            printed, said = child.communicate()
            del self._running[identifier]
            run = _run_of(printed)
            state = {0: "done", 3: "stopped"}.get(child.returncode, "failed")
            error = said.strip().splitlines()[-1] if said.strip() and state != "done" else ""
            self._books.jobs.change(
                identifier,
                lambda j, s=state, r=run, e=error: replace(j, state=s, run=r, error=e),  # type: ignore[misc]
            )
            self._told(f"{job.pipeline} {state}" + (f": {error}" if error else ""))

    def end(self) -> None:
        """Ask the children to stop, and let their jobs wait for the next daemon."""
        for identifier, (_, child) in self._running.items():
            child.send_signal(signal.SIGINT)
            try:
                child.communicate(timeout=10)
            except subprocess.TimeoutExpired:
                child.kill()
            self._books.jobs.change(identifier, lambda j: replace(j, state="waiting"))


def _again(job: Job) -> Job:
    """A job whose worker is gone: it waits again, but not for ever."""
    if job.attempts < _ATTEMPTS:
        return replace(job, state="waiting")
    return replace(job, state="failed", error=f"its worker died {job.attempts} times")


def _run_of(printed: str) -> str:
    try:
        return str(msgspec.json.decode(printed)["id"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return ""


def up(session: Session, host: str, port: int, pages_port: int, told: Callable[[str], None]) -> None:
    """Answer at once, and show the pages; fire triggers as soon as the environment's lease is ours.

    It ends cleanly on Ctrl-C or SIGTERM.

    Raises
    ------
    InputError
        if the port is in use.
    """
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    server = HttpServer(session.workspace, session.clock, host, port)
    pages = Pages(session, pages_port)
    server.start()
    pages.start()
    told(f"answering at {server.address} (Ctrl-C ends it)")
    told(f"pages at {pages.address}")
    try:
        held = _lease_when_free(session, ended, told)
        if held is not None:
            with held:
                _watch(Daemon(session, told), ended, told)
    finally:
        pages.stop()
        server.stop()
        told("ended: what was on its way is answered and journaled")


def _lease_when_free(session: Session, ended: threading.Event, told: Callable[[str], None]) -> IO[str] | None:
    held = take_lease(session.workspace.state_folder)
    if held is None:
        told("another daemon has this environment: waiting until it ends; predictions are answered meanwhile")
    while held is None and not ended.wait(_TICK):
        held = take_lease(session.workspace.state_folder)
    return held


def _watch(daemon: Daemon, ended: threading.Event, told: Callable[[str], None]) -> None:
    daemon.recover()
    told("the daemon watches: triggers fire from now on")
    while not ended.wait(_TICK):
        daemon.turn()
    daemon.end()
