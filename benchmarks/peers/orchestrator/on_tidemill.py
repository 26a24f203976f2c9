"""Ours: a project like a user's, run in process, and by the command line where a figure is about it."""

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import Any

from benchmarks.peers.orchestrator.work import Chain, drive

_COMMAND = Path(sys.executable).with_name("tidemill")


def prepare() -> None:
    """A project in a git repository, as projects are: the chain in a folder of that name, in others the training."""
    project = Path(__file__).parent / "projects" / ("chain" if Path.cwd().name == "chain" else "training")
    shutil.copytree(project, ".", dirs_exist_ok=True)
    for words in ("init -q", "add .", "-c user.name=bench -c user.email=bench@localhost commit -q -m Begin"):
        subprocess.run(("git", *words.split()), check=True)


@cache
def session() -> Any:
    from tidemill.compose.session import open_session
    from tidemill.project.project import Project

    return open_session(Project(Path.cwd()))


def chain(length: int, engine: str = "inline") -> None:
    """A run of the whole engine: artifacts, ledger, events."""
    from tidemill.flow.engine import run

    _, failed = run(session(), session().project.code.pipeline("chain"), {"length": length}, engine=engine)
    assert failed is None, failed


def record(length: int) -> None:
    """What the ledger does at the end of a step, and nothing else: one transaction each."""
    from tidemill.core.artifact import Artifact
    from tidemill.core.run import StepRun

    ledger, mint = session().workspace.ledger, session().clock.mint
    for position in range(length):
        mine = mint()
        step = StepRun(
            id=mine,
            run=mine,
            step="pass_on",
            position=position,
            state="ran",
            reason="its cache is off",
            key=mine,
            code="",
            executor="inline",
            started=datetime.now(UTC),
        )
        with ledger.transaction():
            ledger.artifacts.add(Artifact(id=mine, kind="json", size=12))
            ledger.steps.add(step)


def count() -> int:
    return len(session().workspace.ledger.steps.find())


def resume() -> None:
    """`tidemill runs resume`, on the run that failed."""
    listed = subprocess.run((_COMMAND, "runs", "list", "--json"), check=True, capture_output=True)
    identifier = json.loads(listed.stdout)[0]["id"]
    subprocess.run((_COMMAND, "runs", "resume", identifier), check=True)


if __name__ == "__main__":
    chains: dict[str, Chain | str] = {
        "inline": chain,
        "processes": partial(chain, engine="processes"),
        "transactions": record,
    }
    drive(chains, train="by the command line", resume=resume, count=count, prepare=prepare)
