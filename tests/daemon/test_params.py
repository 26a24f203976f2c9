"""Parameters of triggers: they reach the pipeline as tidemill.toml states them, and one bad job delays no other."""

import subprocess
import tomllib
from datetime import date, datetime, time
from math import isnan
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from tidemill.compose.session import open_session
from tidemill.core.trigger import Job
from tidemill.daemon.daemon import Daemon
from tidemill.daemon.triggers import Triggers
from tidemill.daemon.work import start_worker
from tidemill.flow.session import Session
from tidemill.project.project import Project

VALUES = """
names = ["north", "a=b", "", "null", "[1]", "Zürich ☂ \\u0007"]
sizes = [1, 2]
options = { rate = 0.5, "$date" = 1.0 }
only = { "$date" = "kept" }
deep = false
text = "a=b"
empty = ""
null = "null"
number_text = "007"
maybe = "null"
since = 2026-01-31T06:00:00Z
day = 2026-01-31
at = 07:30:00
rate = nan
most = -inf
huge = 123456789012345678901234567890
anything = [{ on = 2026-01-31, flags = [true, false], "x y" = [] }]
"""
CODE = """
from datetime import date, datetime, time
from pathlib import Path
from typing import Any
from tidemill import pipeline, step

@step(cache=False)
def note(values: Any) -> str:
    return ""

@pipeline
def go(
    names: list[str], sizes: list[int], options: dict[str, float], only: dict[str, str], deep: bool, text: str,
    empty: str, null: str, number_text: str, maybe: str | None, since: datetime, day: date, at: time, rate: float,
    most: float, huge: int, anything: Any = None,
) -> None:
    Path("seen").write_text(repr(dict(locals())))
    note([names, since, rate, huge, anything])

@pipeline
def small(n: int = 1) -> None:
    note(n)
"""
TRIGGERS = """
[[triggers]]
name = "go"
on = "visit"
pipeline = "go"
[triggers.params]
"""


def make_session(folder: Path) -> Session:
    folder.mkdir(exist_ok=True)
    (folder / "tidemill.toml").write_text('[project]\nname = "typed"\n' + TRIGGERS + VALUES)
    (folder / "pipeline.py").write_text(CODE)
    return open_session(Project(folder))


def run_until_settled(daemon: Daemon, session: Session, job: Job) -> Job:
    while session.workspace.ledger.jobs.get(job.id).state in ("waiting", "running"):
        daemon.run_once()
        for _, worker in list(daemon._running.values()):
            if worker is not None:
                worker.wait()
        session.workspace.ledger.jobs.change(job.id, _make_due)
    return session.workspace.ledger.jobs.get(job.id)


def _make_due(job: Job) -> Job:
    return replace(job, available=job.created)


def test_parameters_reach_the_pipeline_as_the_file_states_them(tmp_path: Path) -> None:
    session = make_session(tmp_path / "project")
    triggers = Triggers(session.project.policy, session.workspace.ledger, session.clock, "production")
    triggers.emit("visit", "somebody", "first", session.clock.now(), {})
    (job,) = triggers.fire()
    settled = run_until_settled(Daemon(session, lambda _: None), session, job)
    assert (settled.state, settled.error) == ("done", "")
    names = {"nan": float("nan"), "inf": float("inf"), "date": date, "datetime": datetime, "time": time}
    text = (tmp_path / "project" / "seen").read_text().replace("datetime.datetime", "datetime")
    text = text.replace("datetime.date", "date").replace("datetime.time(", "time(").replace("datetime.timezone", "zone")
    seen: dict[str, Any] = eval(text, names | {"zone": __import__("datetime").timezone})
    stated = tomllib.loads(VALUES)
    assert isnan(seen.pop("rate"))
    assert isnan(stated.pop("rate"))
    assert seen == stated
    assert {name: type(value) for name, value in seen.items()} == {name: type(value) for name, value in stated.items()}
    resumed = session.workspace.ledger.runs.get(settled.run)
    assert resumed.params["names"] == stated["names"], "a resumed run has the same parameters"


def test_a_job_that_cannot_start_delays_no_other(tmp_path: Path) -> None:
    session = make_session(tmp_path / "project")
    triggers = Triggers(session.project.policy, session.workspace.ledger, session.clock, "production")
    poisoned = triggers.create_manual_job("go\0", "", {}, "poisoned")
    unknown = triggers.create_manual_job("no such pipeline", "", {}, "unknown")
    wrong = triggers.create_manual_job("small", "", {"n": [1, {"a": "b"}]}, "wrong")
    good = triggers.create_manual_job("small", "", {"n": 2}, "good")
    said: list[str] = []

    def start(session: Session, job: Job) -> "subprocess.Popen[bytes]":
        worker = start_worker(session, job)
        assert isinstance(worker, subprocess.Popen)
        return worker

    daemon = Daemon(session, said.append, start)
    assert run_until_settled(daemon, session, good).state == "done", said
    assert run_until_settled(daemon, session, poisoned).state == "failed"
    assert run_until_settled(daemon, session, unknown).state == "failed"
    failed = run_until_settled(daemon, session, wrong)
    assert failed.state == "failed"
    assert "parameter 'n'" in failed.error
