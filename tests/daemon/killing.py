"""Kill daemons with `kill -9`, at random times and at named points, while causes of all kinds occur.

`python -m tests.daemon.killing FOLDER KILLS SEED [POINT…]` prints one line of JSON: the outcome of each cause. Each
daemon and each worker is a fork of a process that has only imported the code; workers outlive their daemon.
"""

import json
import os
import random
import signal
import socket
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import tests.daemon.killing_pipeline  # imported here, so that each fork has it
from tidemill.cli.main import main as tidemill
from tidemill.compose.session import open_session
from tidemill.core.trigger import Job
from tidemill.daemon.daemon import Daemon
from tidemill.daemon.main import watch
from tidemill.daemon.triggers import Triggers
from tidemill.daemon.work import build_command
from tidemill.flow.engine import sweep
from tidemill.flow.session import Session
from tidemill.project.project import Project

_POLICY = """\
[project]
name = "kit"

[sources.rows]
path = "data/*.csv"

[[triggers]]
name = "tick"
cron = "* * * * * */2"
catch_up = "all"
pipeline = "judging"

[[triggers]]
name = "drift"
on = "verdict"
where = { action = "retrain" }
pipeline = "training"
budget = 100000

[[triggers]]
name = "trained"
on = "run"
where = { subject = "training" }
pipeline = "noting"
budget = 100000

[[triggers]]
name = "data"
on = "data"
where = { subject = "rows" }
pipeline = "noting"

[[triggers]]
name = "visit"
on = "visit"
pipeline = "noting"
params = { message = "ein Besuch — Zürich" }
budget = 100000
"""
_CODE = "from tests.daemon.killing_pipeline import judging, noting, training\n"
_MAX_LIFETIME = 0.3


def open_kit(folder: Path) -> Session:
    return open_session(Project(folder), "test")


class ForkedWorker:
    """A worker that another process forks: a fork of the daemon would inherit its SQLite connection."""

    def __init__(self, session: Session, job: Job) -> None:
        self._folder = session.project.folder
        with socket.socket(socket.AF_UNIX) as forker:
            forker.connect(str(self._folder / "forker"))
            forker.sendall(json.dumps(build_command(job)).encode() + b"\n")
            self._process = int(forker.makefile().readline())

    def poll(self) -> int | None:
        try:
            return int((self._folder / "ended" / str(self._process)).read_text())
        except FileNotFoundError:
            return None

    def send_signal(self, number: int) -> None:
        os.kill(self._process, number)

    def wait(self, _: float | None = None) -> int:
        while (status := self.poll()) is None:
            time.sleep(0.01)
        return status


def fork_workers(folder: Path) -> None:
    """Fork a worker for each connection, and write its exit status to a file, until the parent stops."""
    os.setsid()
    (folder / "ended").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / "forker"))
        server.listen(100)
        server.settimeout(0.02)
        while os.getppid() != 1:
            try:
                connection = server.accept()[0]
                words = json.loads(connection.makefile().readline())
                connection.sendall(f"{fork(lambda words=words: _run_worker(folder, words))}\n".encode())
                connection.close()
            except (TimeoutError, ValueError, OSError):
                pass  # the daemon was killed meanwhile
            _write_exit_statuses(folder)


def _write_exit_statuses(folder: Path) -> None:
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            draft = folder / "ended" / "draft"
            draft.write_text(str(os.waitstatus_to_exitcode(ended[1])))
            draft.rename(folder / "ended" / str(ended[0]))
    except ChildProcessError:
        pass


def _run_worker(folder: Path, words: list[str]) -> None:
    os.setsid()
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    os.dup2(os.open("workers.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os._exit(tidemill(words))


def fork(work: Any) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def run_daemon(folder: Path, fault: str = "", until_idle: bool = False) -> Any:
    """Return a function that runs a daemon until it is killed, or until no job is waiting or running."""

    def work() -> None:
        os.environ["TIDEMILL_FAULT"] = fault
        os.dup2(os.open(folder / "daemon.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        stop = threading.Event()
        session = open_kit(folder)

        class StoppingDaemon(Daemon):
            def run_once(self) -> None:
                super().run_once()
                states = {job.state for job in session.workspace.ledger.jobs.find()}
                if until_idle and not states & {"waiting", "running"}:
                    stop.set()

        def make_daemon(session: Session, notify: Any) -> Daemon:
            return StoppingDaemon(session, notify, ForkedWorker)

        watch(session, stop, lambda line: print(line, file=sys.stderr, flush=True), make_daemon, 0.02)

    return work


def cause(folder: Path, number: int) -> Any:
    """Return a function that creates a cause: new data, an event, or a manual job."""

    def work() -> None:
        session = open_kit(folder)
        triggers = Triggers(session.project.policy, session.workspace.ledger, session.clock, "test")
        if number % 3 == 0:
            draft = folder / "data" / "draft"
            draft.write_text(f"row\n{number}\n")
            draft.rename(folder / "data" / f"rows-{number}.csv")
        elif number % 3 == 1:
            triggers.emit("visit", f"visitor {number}", f"visit/{number}", session.clock.now(), {"number": number})
        else:
            triggers.create_manual_job("noting", "", {"message": f"manual {number}"}, f"hand/{number}")

    return work


def find_worker(folder: Path) -> int | None:
    """Return the process of a run."""
    for file in (folder / ".tidemill" / "runs").glob("*.lock"):
        try:
            return int(file.read_text())
        except (FileNotFoundError, ValueError):
            continue
    return None


def check(folder: Path, causes: int, until: datetime) -> dict[str, Any]:
    """Check that each cause has one job, and that each job has one run, which is done."""
    session = open_kit(folder)
    sweep(session)
    books = session.workspace.ledger
    jobs, runs = books.jobs.find(), books.runs.find()
    problems = []
    runs_by_job = Counter(str(run.cause["job"]) for run in runs)
    for job in jobs:
        has_died = job.deaths >= 3
        if job.state != "done" and not has_died:
            problems.append(f"{job.trigger} {job.dedupe_key} is {job.state}: {job.error}")
        elif runs_by_job[job.id] != 1 and not (has_died and runs_by_job[job.id] == 0):
            problems.append(f"{job.trigger} {job.dedupe_key} has {runs_by_job[job.id]} runs")
    states = {run.id: run.state for run in runs}
    problems += [
        f"run {job.run} is {states.get(job.run)}" for job in jobs if job.state == "done" != states.get(job.run)
    ]
    problems += [f"job {job} is unknown" for job in runs_by_job.keys() - {job.id for job in jobs}]
    jobs_by_trigger = Counter(job.trigger for job in jobs)
    keys = {(job.trigger, job.dedupe_key) for job in jobs}
    for number in range(causes):
        expected = {0: ("data", "data/rows/rows-%d.csv@"), 1: ("visit", "visit/%d"), 2: ("hand", "hand/%d")}[number % 3]
        fits = [key for key in keys if key[0] == expected[0] and f"{key[1]}@".startswith(expected[1] % number)]
        fits = fits if number % 3 == 0 else [key for key in keys if key == (expected[0], expected[1] % number)]
        if len(fits) != 1:
            problems.append(f"cause {number} ({expected[0]}) has {len(fits)} jobs")
    for kind, trigger in (("verdict", "drift"), ("run", "trained")):
        emitted = {
            event.dedupe_key for event in books.events.find(kind=kind) if kind != "run" or event.subject == "training"
        }
        if emitted != {key for name, key in keys if name == trigger}:
            problems.append(f"{trigger}: {len(emitted)} causes, {jobs_by_trigger[trigger]} jobs")
    ticks = sorted(datetime.fromisoformat(key.partition("/")[0]) for name, key in keys if name == "tick")
    if any(later - tick != timedelta(seconds=2) for tick, later in pairwise(ticks)):
        problems.append(f"ticks are missing or duplicate: {ticks}")
    if not ticks or ticks[-1] < until - timedelta(seconds=2):
        problems.append(f"no tick after {ticks[-1:]}, but it was {until}")
    counted = {
        "daemons": len(books.events.find(kind="daemon")),
        "jobs with several attempts": sum(job.attempts > 1 for job in jobs),
        "runs started by the last daemon": sum(run.started > until for run in runs),
        "worker deaths": sum(job.deaths for job in jobs),
    }
    return {"jobs": dict(jobs_by_trigger), "runs": len(runs), **counted, "problems": problems}


def main() -> None:
    folder, kills, seed, points = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    (folder / "data").mkdir(parents=True)
    (folder / "tidemill.toml").write_text(_POLICY)
    (folder / "pipeline.py").write_text(_CODE)
    generator = random.Random(seed)
    causes = killed = worker_kills = 0
    forker = fork(lambda: fork_workers(folder))
    while not (folder / "forker").exists():
        time.sleep(0.01)
    began = time.monotonic()
    os.waitpid(fork(cause(folder, causes)), 0)
    causes += 1
    while killed < kills + len(points):
        point = points[killed] if killed < len(points) else ""
        child = fork(run_daemon(folder, point))
        if killed % 2 == 0:
            os.waitpid(fork(cause(folder, causes)), 0)
            causes += 1
        if not point:
            time.sleep(generator.uniform(0, _MAX_LIFETIME))
            os.kill(child, signal.SIGKILL)
        elif not any(_has_stopped(child) for _ in range(1000)):
            os.kill(child, signal.SIGKILL)
            print(json.dumps({"problems": [f"no daemon reached the point {point!r}"]}))
            return
        else:
            killed += 1
            continue
        os.waitpid(child, 0)
        killed += 1
        worker = find_worker(folder) if killed % 10 == 0 else None
        if worker is not None:
            try:
                os.kill(worker, signal.SIGKILL)
                worker_kills += 1
            except ProcessLookupError:
                pass
    until = datetime.now(UTC)
    seconds = time.monotonic() - began
    os.waitpid(fork(run_daemon(folder, until_idle=True)), 0)
    os.kill(forker, signal.SIGKILL)
    outcome = check(folder, causes, until)
    print(
        json.dumps(
            {"kills": killed, "kills of workers": worker_kills, "seconds": round(seconds), "causes": causes} | outcome
        )
    )


def _has_stopped(child: int) -> bool:
    time.sleep(0.01)
    return os.waitpid(child, os.WNOHANG)[0] != 0


assert tests.daemon.killing_pipeline
if __name__ == "__main__":
    main()
