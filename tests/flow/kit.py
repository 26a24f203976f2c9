"""What the tests of the engine share: a project with its workspace, and runs of plain pipelines."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tidemill.clock import Clock, VirtualClock
from tidemill.compose.backends import open_workspace
from tidemill.core.pipeline import Pipeline
from tidemill.core.policy import ModelPolicy, Policy, Problem
from tidemill.core.run import Run, StepRun
from tidemill.core.source import Source
from tidemill.errors import TidemillError
from tidemill.flow.engine import run
from tidemill.flow.session import Session
from tidemill.project.project import Project

NOON = datetime(2013, 3, 1, 12, tzinfo=UTC)
POLICY = Policy(
    name="late",
    sources={"rows": Source(path="rows.csv")},
    models={"late": ModelPolicy(name="late", problem=Problem(decision="d", source="rows", label="late"))},
)


class Mill:
    """A project in a folder; runs pipelines, and knows what became of their steps."""

    def __init__(
        self, folder: Path, environment: str = "test", clock: Clock | None = None, blobs: Path | None = None
    ) -> None:
        self.workspace = open_workspace(folder / "state", environment, urls={"blobs": str(blobs)} if blobs else None)
        self.session = Session(Project(folder, POLICY), self.workspace, clock or VirtualClock(NOON))
        self.books = self.workspace.ledger

    def try_to_run(self, pipeline: Pipeline, **params: Any) -> tuple[Run, TidemillError | None]:
        return run(self.session, pipeline, params)

    def run(self, pipeline: Pipeline, **params: Any) -> Run:
        """Run a pipeline that must not fail."""
        done, error = self.try_to_run(pipeline, **params)
        if error is not None:
            raise error
        return done

    def steps(self, done: Run) -> dict[str, StepRun]:
        """The steps of a run by name, in their order."""
        return {one.step: one for one in sorted(self.books.steps.find(run=done.id), key=lambda one: one.position)}

    def states(self, done: Run) -> dict[str, str]:
        return {name: one.state for name, one in self.steps(done).items()}

    def value(self, done: Run, step: str, output: str = "output") -> bytes:
        """The bytes of what a step gave."""
        return self.workspace.blobs.get(self.steps(done)[step].outputs[output])
