"""Two daemons of one environment, on one workspace or on two with a ledger on a server: each job runs once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.daemon.kit import POLICY
from tidemill.clock import SystemClock
from tidemill.daemon.triggers import Triggers
from tidemill.ledger.ledger import Ledger
from tidemill.project.project import Project

_TRIGGERS = """
[[triggers]]
name = "visit"
on = "visit"
pipeline = "waiting"
budget = 1000
"""
_CODE = """
import os, time
from pathlib import Path
from tidemill.core.pipeline import pipeline, step

@step(cache=False)
def waited() -> str:
    with Path("starts").open("a") as file:
        file.write(f"{os.getpid()}\\n")
    deadline = time.monotonic() + 120
    while not Path("go").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    return "done"

@pipeline
def waiting() -> None:
    waited()
"""
_DAEMON = """
import sys, threading
from pathlib import Path
from tidemill.compose.session import open_session
from tidemill.daemon.main import watch
from tidemill.project.project import Project
watch(open_session(Project(Path.cwd()), "test"), threading.Event(), lambda line: print(line, flush=True), tick=0.1)
"""


class TwoDaemons:
    """Two daemons of one project; the first one has the lease."""

    def __init__(self, folder: Path, ledger: str) -> None:
        self.folder, self.url = folder, ledger or f"sqlite:///{folder}/.tidemill/ledger.db"
        (folder / "data").mkdir(parents=True)
        (folder / "tidemill.toml").write_text(POLICY + _TRIGGERS)
        (folder / "pipeline.py").write_text(_CODE)
        self.outputs = [folder / "first.log", folder / "second.log"]
        self.processes: list[subprocess.Popen[bytes]] = []
        for output in self.outputs:
            environment = dict(os.environ)
            if ledger:
                environment |= {"TIDEMILL_LEDGER": ledger, "TIDEMILL_WORKSPACE": str(folder / output.stem)}
            with output.open("wb") as log:
                process = subprocess.Popen(
                    [sys.executable, "-c", _DAEMON], cwd=folder, env=environment, stdout=log, stderr=log
                )
            self.processes.append(process)
            expected = "triggers fire" if output.stem == "first" else "another daemon runs"
            until(partial(reports, output, expected))

    @property
    def starts(self) -> list[int]:
        """The processes that have executed the step."""
        file = self.folder / "starts"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def visit(self, key: str) -> None:
        triggers = Triggers(Project(self.folder).policy, Ledger(self.url), SystemClock(), "test")
        triggers.emit("visit", "somebody", key, SystemClock().now(), {})

    def kill_first(self) -> None:
        self.processes[0].kill()
        self.processes[0].wait()
        until(partial(reports, self.outputs[1], "triggers fire"))

    def count_done(self) -> int:
        return len(Ledger(self.url).jobs.find(state="done"))


def reports(output: Path, text: str) -> bool:
    return text in output.read_text()


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)


@pytest.fixture
def daemons(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[TwoDaemons]:
    ledger = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    both = TwoDaemons(tmp_path / "kit", ledger)
    yield both
    (both.folder / "go").touch()
    for process in both.processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("daemons", ["postgresql"], indirect=True)
def test_the_second_daemon_follows_the_job_of_one_that_was_killed(daemons: TwoDaemons) -> None:
    daemons.visit("one")
    until(lambda: len(daemons.starts) == 1)
    daemons.kill_first()
    daemons.visit("two")  # it shows that the second daemon has looked at its jobs
    until(lambda: len(daemons.starts) == 2)
    (job,) = Ledger(daemons.url).jobs.find(dedupe_key="one")
    assert (job.state, job.attempts, job.deaths) == ("running", 1, 0)
    (daemons.folder / "go").touch()
    until(lambda: daemons.count_done() == 2)
    assert len(daemons.starts) == 2, "the job of the first daemon ran once"


@pytest.mark.parametrize("daemons", ["sqlite", "postgresql"], indirect=True)
def test_the_second_daemon_resumes_a_job_whose_process_was_killed_too(daemons: TwoDaemons) -> None:
    daemons.visit("one")
    until(lambda: len(daemons.starts) == 1)
    os.kill(daemons.starts[0], signal.SIGKILL)
    daemons.kill_first()
    until(lambda: len(daemons.starts) == 2)
    (daemons.folder / "go").touch()
    until(lambda: daemons.count_done() == 1)
    books = Ledger(daemons.url)
    assert [run.state for run in books.runs.find()] == ["done"], "the same run was resumed"
    assert len(daemons.starts) == 2
