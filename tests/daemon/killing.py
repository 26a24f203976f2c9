"""Kills daemons with `kill -9`, at random instants and at named points, while causes of all kinds come in.

`python -m tests.daemon.killing FOLDER KILLS SEED [POINT…]` prints one line of JSON: how each cause fared. Each daemon
is a fork of a process that has imported everything and done nothing; so is each of its workers, which outlive it.
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

import tests.daemon.killing_pipeline  # so that each fork has it
from tidemill.cli.main import main as tidemill
from tidemill.compose.session import open_session
from tidemill.core.trigger import Job
from tidemill.daemon.daemon import Daemon
from tidemill.daemon.main import watch
from tidemill.daemon.triggers import Triggers
from tidemill.daemon.work import words_of
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
params = { said = "ein Besuch — Zürich" }
budget = 100000
"""
_CODE = "from tests.daemon.killing_pipeline import judging, noting, training\n"
_MOMENT = 0.3


def opened(folder: Path) -> Session:
    return open_session(Project(folder), "test")


class Forked:
    """A worker of a process that forks them: SQLite must not be carried into a fork, as the daemon's own would."""

    def __init__(self, session: Session, job: Job) -> None:
        self._folder = session.project.folder
        with socket.socket(socket.AF_UNIX) as asked:
            asked.connect(str(self._folder / "forker"))
            asked.sendall(json.dumps(words_of(job)).encode() + b"\n")
            self._process = int(asked.makefile().readline())

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
    """Fork a worker for each connection, and write down how it ended, until the parent is gone."""
    os.setsid()
    (folder / "ended").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "forker"))
        listening.listen(100)
        listening.settimeout(0.02)
        while os.getppid() != 1:
            try:
                asking = listening.accept()[0]
                words = json.loads(asking.makefile().readline())
                asking.sendall(f"{forked(lambda words=words: _at_work(folder, words))}\n".encode())
                asking.close()
            except (TimeoutError, ValueError, OSError):
                pass  # who asked was killed meanwhile
            _write_down_the_dead(folder)


def _write_down_the_dead(folder: Path) -> None:
    try:
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            draft = folder / "ended" / "draft"
            draft.write_text(str(os.waitstatus_to_exitcode(ended[1])))
            draft.rename(folder / "ended" / str(ended[0]))
    except ChildProcessError:
        pass


def _at_work(folder: Path, words: list[str]) -> None:
    os.setsid()
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDWR), 1)
    os.dup2(os.open("workers.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
    os._exit(tidemill(words))


def forked(work: Any) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return child


def daemon(folder: Path, fault: str = "", until_idle: bool = False) -> Any:
    """A daemon that is killed sooner or later, or one that ends when nothing is left to be done."""

    def work() -> None:
        os.environ["TIDEMILL_FAULT"] = fault
        os.dup2(os.open(folder / "daemon.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        ended = threading.Event()
        session = opened(folder)

        class Ending(Daemon):
            def turn(self) -> None:
                super().turn()
                states = {job.state for job in session.workspace.ledger.jobs.find()}
                if until_idle and not states & {"waiting", "running"}:
                    ended.set()

        def made(session: Session, told: Any) -> Daemon:
            return Ending(session, told, Forked)

        watch(session, ended, lambda line: print(line, file=sys.stderr, flush=True), made, 0.02)

    return work


def cause(folder: Path, number: int) -> Any:
    """Something happens: new data, an event, or a wish by hand."""

    def work() -> None:
        session = opened(folder)
        triggers = Triggers(session.project.policy, session.workspace.ledger, session.clock, "test")
        if number % 3 == 0:
            draft = folder / "data" / "draft"
            draft.write_text(f"row\n{number}\n")
            draft.rename(folder / "data" / f"rows-{number}.csv")
        elif number % 3 == 1:
            triggers.tell("visit", f"visitor {number}", f"visit/{number}", session.clock.now(), {"number": number})
        else:
            triggers.create_manual_job("noting", "", {"said": f"by hand {number}"}, f"hand/{number}")

    return work


def a_worker(folder: Path) -> int | None:
    """The process of a run that is at work."""
    for file in (folder / ".tidemill" / "runs").glob("*.lock"):
        try:
            return int(file.read_text())
        except (FileNotFoundError, ValueError):
            continue
    return None


def look(folder: Path, causes: int, until: datetime) -> dict[str, Any]:
    """Each cause has one job, and each job one run, which is done."""
    session = opened(folder)
    sweep(session)
    books = session.workspace.ledger
    jobs, runs = books.jobs.find(), books.runs.find()
    problems = []
    of_job = Counter(str(run.cause["job"]) for run in runs)
    for job in jobs:
        died = job.deaths >= 3
        if job.state != "done" and not died:
            problems.append(f"{job.trigger} {job.dedupe_key} is {job.state}: {job.error}")
        elif of_job[job.id] != 1 and not (died and of_job[job.id] == 0):
            problems.append(f"{job.trigger} {job.dedupe_key} has {of_job[job.id]} runs")
    states = {run.id: run.state for run in runs}
    problems += [
        f"run {job.run} is {states.get(job.run)}" for job in jobs if job.state == "done" != states.get(job.run)
    ]
    problems += [f"job {one} is not known" for one in of_job.keys() - {job.id for job in jobs}]
    of_trigger = Counter(job.trigger for job in jobs)
    keys = {(job.trigger, job.dedupe_key) for job in jobs}
    for number in range(causes):
        wanted = {0: ("data", "data/rows/rows-%d.csv@"), 1: ("visit", "visit/%d"), 2: ("hand", "hand/%d")}[number % 3]
        fits = [key for key in keys if key[0] == wanted[0] and f"{key[1]}@".startswith(wanted[1] % number)]
        fits = fits if number % 3 == 0 else [key for key in keys if key == (wanted[0], wanted[1] % number)]
        if len(fits) != 1:
            problems.append(f"cause {number} ({wanted[0]}) has {len(fits)} jobs")
    for kind, trigger in (("verdict", "drift"), ("run", "trained")):
        told = {
            event.dedupe_key for event in books.events.find(kind=kind) if kind != "run" or event.subject == "training"
        }
        if told != {key for name, key in keys if name == trigger}:
            problems.append(f"{trigger}: {len(told)} causes, {of_trigger[trigger]} jobs")
    ticks = sorted(datetime.fromisoformat(key.partition("/")[0]) for name, key in keys if name == "tick")
    if any(later - tick != timedelta(seconds=2) for tick, later in pairwise(ticks)):
        problems.append(f"ticks were left out or came twice: {ticks}")
    if not ticks or ticks[-1] < until - timedelta(seconds=2):
        problems.append(f"no tick after {ticks[-1:]}, but it was {until}")
    counted = {
        "daemons that watched": len(books.events.find(kind="daemon")),
        "jobs begun again": sum(job.attempts > 1 for job in jobs),
        "runs begun by the last daemon": sum(run.started > until for run in runs),
        "worker deaths": sum(job.deaths for job in jobs),
    }
    return {"jobs": dict(of_trigger), "runs": len(runs), **counted, "problems": problems}


def main() -> None:
    folder, kills, seed, points = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]
    (folder / "data").mkdir(parents=True)
    (folder / "tidemill.toml").write_text(_POLICY)
    (folder / "pipeline.py").write_text(_CODE)
    luck = random.Random(seed)
    causes = killed = worker_kills = 0
    forker = forked(lambda: fork_workers(folder))
    while not (folder / "forker").exists():
        time.sleep(0.01)
    began = time.monotonic()
    os.waitpid(forked(cause(folder, causes)), 0)
    causes += 1
    while killed < kills + len(points):
        point = points[killed] if killed < len(points) else ""
        child = forked(daemon(folder, point))
        if killed % 2 == 0:
            os.waitpid(forked(cause(folder, causes)), 0)
            causes += 1
        if not point:
            time.sleep(luck.uniform(0, _MOMENT))
            os.kill(child, signal.SIGKILL)
        elif not any(_gone(child) for _ in range(1000)):
            os.kill(child, signal.SIGKILL)
            print(json.dumps({"problems": [f"no daemon came to the point {point!r}"]}))
            return
        else:
            killed += 1
            continue
        os.waitpid(child, 0)
        killed += 1
        worker = a_worker(folder) if killed % 10 == 0 else None
        if worker is not None:
            try:
                os.kill(worker, signal.SIGKILL)
                worker_kills += 1
            except ProcessLookupError:
                pass
    until = datetime.now(UTC)
    lasted = time.monotonic() - began
    os.waitpid(forked(daemon(folder, until_idle=True)), 0)
    os.kill(forker, signal.SIGKILL)
    found = look(folder, causes, until)
    print(
        json.dumps(
            {"kills": killed, "kills of workers": worker_kills, "seconds": round(lasted), "told": causes} | found
        )
    )


def _gone(child: int) -> bool:
    time.sleep(0.01)
    return os.waitpid(child, os.WNOHANG)[0] != 0


assert tests.daemon.killing_pipeline
if __name__ == "__main__":
    main()
