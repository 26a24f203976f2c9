"""Tidemill: a project like a user's, run in this process, or by the command line where the figure measures it."""

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
    """Create a project in a git repository: the chain in a folder with that name, the training in other folders."""
    project = Path(__file__).parent / "projects" / ("chain" if Path.cwd().name == "chain" else "training")
    shutil.copytree(project, ".", dirs_exist_ok=True)
    for command in ("init -q", "add .", "-c user.name=bench -c user.email=bench@localhost commit -q -m Begin"):
        subprocess.run(("git", *command.split()), check=True)


@cache
def session() -> Any:
    from tidemill.compose.session import open_session
    from tidemill.project.project import Project

    return open_session(Project(Path.cwd()))


def chain(length: int, engine: str = "inline") -> None:
    """Run the whole engine: artifacts, ledger, events."""
    from tidemill.flow.engine import run

    _, failed = run(session(), session().project.code.pipeline("chain"), {"length": length}, engine=engine)
    assert failed is None, failed


def record(length: int) -> None:
    """Write the end of each step to the ledger, in one transaction per step."""
    from tidemill.core.artifact import Artifact
    from tidemill.core.run import StepRun

    ledger, mint = session().workspace.ledger, session().clock.mint
    for position in range(length):
        identifier = mint()
        step = StepRun(
            id=identifier,
            run=identifier,
            step="pass_on",
            position=position,
            state="ran",
            reason="its cache is off",
            key=identifier,
            code="",
            executor="inline",
            started=datetime.now(UTC),
        )
        with ledger.transaction():
            ledger.artifacts.add(Artifact(id=identifier, kind="json", size=12))
            ledger.steps.add(step)


def count() -> int:
    return len(session().workspace.ledger.steps.find())


def resume() -> None:
    """Resume the failed run with `tidemill runs resume`."""
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
