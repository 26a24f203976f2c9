"""Writes what a run leaves: its steps, artifacts, verdicts, metrics and events, each in one transaction."""

import importlib.metadata
import platform
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.artifact import Artifact
from tidemill.core.check import Verdict
from tidemill.core.event import Event
from tidemill.core.feature import FeatureSet
from tidemill.core.pipeline import Graph
from tidemill.core.policy import ModelPolicy
from tidemill.core.run import Metrics, Run, RunState, StepRun
from tidemill.errors import Conflict
from tidemill.flow.session import Session

_PACKAGES = ("tidemill", "lightgbm", "numpy", "polars", "pyarrow", "scikit-learn", "scipy")
_QUIET = ("proceed", "ignore", "hold")


class Recorder:
    """The ledger's view of one run."""

    def __init__(self, session: Session, graph: Graph, cause: dict[str, Any], environment: str) -> None:
        self._clock: Clock = session.clock
        self._books = session.workspace.ledger
        self._began = session.clock.monotonic()
        models = [value.name for value in graph.params.values() if isinstance(value, ModelPolicy)]
        self.run = Run(
            id=session.clock.mint(),
            pipeline=graph.pipeline,
            environment=environment,
            state="running",
            started=session.clock.now(),
            model=models[0] if models else "",
            params={name: to_builtins(value) for name, value in graph.params.items() if not _is_context(value)},
            cause=cause,
            code=session.code_state | {"policy": session.project.policy_digest},
            software=software(),
            graph={node.name: list(node.needs) for node in graph.nodes.values()},
        )
        self._books.runs.add(self.run)

    def begin(self, step: StepRun) -> None:
        """A step is about to run: if the process dies now, the ledger names it."""
        self._books.steps.add(step)

    def finish(self, step: StepRun, values: tuple[Any, ...], artifacts: tuple[Artifact, ...], *, begun: bool) -> None:
        """A step is over: what it gave, in one transaction."""
        with self._books.transaction():
            for artifact in artifacts:
                self._keep(artifact)
            if begun:
                self._books.steps.change(step.id, lambda _: step)
            else:
                self._books.steps.add(step)
            for verdict in _verdicts(values):
                self._judged(verdict, step)
            for value in values:
                if isinstance(value, Metrics):
                    self._measured(value)

    def _keep(self, artifact: Artifact) -> None:
        try:
            self._books.artifacts.add(artifact)
        except Conflict:
            return

    def _judged(self, verdict: Verdict, step: StepRun) -> None:
        now = self._clock.now()
        stored = replace(
            verdict,
            id=self._clock.mint(),
            run=self.run.id,
            environment=self.run.environment,
            model=verdict.model or self.run.model,
            time=now,
        )
        self._books.verdicts.add(stored)
        if verdict.action not in _QUIET:
            self.tell(
                "verdict",
                verdict.subject,
                f"verdict/{stored.id}",
                cause=stored.id,
                payload={
                    "check": verdict.check,
                    "outcome": verdict.outcome,
                    "action": verdict.action,
                    "reason": verdict.reason,
                    "model": stored.model,
                    "run": self.run.id,
                    "step": step.step,
                },
            )

    def _measured(self, metrics: Metrics) -> None:
        prefix = f"{metrics.about}_" if metrics.about else ""
        named = {f"{prefix}{name}": value for name, value in metrics.values.items()}
        self.run = self._books.runs.change(self.run.id, lambda run: replace(run, metrics=run.metrics | named))

    def tell(self, kind: str, subject: str, dedupe_key: str, cause: str, payload: dict[str, Any]) -> None:
        """Write an event."""
        now = self._clock.now()
        self._books.events.add(
            Event(
                id=self._clock.mint(),
                kind=kind,
                environment=self.run.environment,
                subject=subject,
                time=now,
                known_at=now,
                dedupe_key=dedupe_key,
                cause=cause,
                payload=payload,
            )
        )

    def close(self, state: RunState, error: str = "") -> Run:
        """The run is over."""
        ended: datetime = self._clock.now()
        seconds = self._clock.monotonic() - self._began
        with self._books.transaction():
            self.run = self._books.runs.change(
                self.run.id, lambda run: replace(run, state=state, ended=ended, seconds=seconds, error=error)
            )
            self.tell(
                "run",
                self.run.pipeline,
                f"run/{self.run.id}",
                cause=self.run.id,
                payload={"state": state, "pipeline": self.run.pipeline, "model": self.run.model, "error": error},
            )
        return self.run


def _is_context(value: Any) -> bool:
    return isinstance(value, ModelPolicy | FeatureSet)


def _verdicts(values: tuple[Any, ...]) -> Iterator[Verdict]:
    for value in values:
        if isinstance(value, Verdict):
            yield value
        elif isinstance(value, list | tuple):
            yield from (member for member in value if isinstance(member, Verdict))


@cache
def software() -> dict[str, str]:
    """The versions of Python and of the packages that models are made with."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
