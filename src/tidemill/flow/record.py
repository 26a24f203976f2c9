"""Writes what a run leaves: its steps, artifacts, verdicts, metrics and events, in one transaction a step boundary."""

from collections.abc import Callable
from datetime import datetime
from math import isfinite
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.artifact import Artifact
from tidemill.core.check import Verdict
from tidemill.core.event import RunPayload, VerdictPayload
from tidemill.core.feature import FeatureSet
from tidemill.core.pipeline import Graph
from tidemill.core.policy import ModelPolicy
from tidemill.core.run import Attempt, Interruption, Metrics, Run, RunState, StepRun
from tidemill.errors import Cancelled, Conflict
from tidemill.faults import reached
from tidemill.flow.session import Session
from tidemill.ledger.events import tell

_LOOKS = 1.0


class Recorder:
    """The ledger's view of one run; what is noted is written at the next boundary, all or nothing."""

    def __init__(self, session: Session, run: Run) -> None:
        self._clock: Clock = session.clock
        self._books = session.workspace.ledger
        self._blobs = session.workspace.blobs
        self._began = self._looked = session.clock.monotonic()
        self._noted: list[Callable[[], Any]] = []
        self.run = run

    def begin(self, step: StepRun) -> None:
        """Note that a step is about to run: if the process dies then, the ledger names it."""
        self._noted.append(lambda: self._books.steps.add(step))

    def change(self, step: StepRun) -> None:
        """Note what is known now of a step that began."""
        self._noted.append(lambda: self._books.steps.change(step.id, lambda _: step))

    def finish(
        self,
        step: StepRun,
        artifacts: tuple[Artifact, ...] = (),
        verdicts: tuple[Verdict, ...] = (),
        metrics: tuple[Metrics, ...] = (),
        *,
        begun: bool = True,
    ) -> None:
        """Note that a step is over, and what it gave."""

        def write() -> None:
            if begun:
                self._books.steps.change(step.id, lambda _: step)
            else:
                self._books.steps.add(step)
            reached("step is written")
            for artifact in artifacts:
                self._keep(artifact)
            reached("artifacts are written")
            for verdict in verdicts:
                self._judged(verdict, step)
                reached("verdict is written")
            self._measured(metrics)
            reached("metrics are written")

        self._noted.append(write)

    def boundary(self) -> None:
        """Write what was noted, in one transaction.

        Raises
        ------
        Cancelled
            if somebody cancelled the run meanwhile.
        """
        if self._noted:
            reached("boundary begins")
            with self._books.transaction():
                for write in self._noted:
                    write()
                reached("boundary is written")
            self._noted = []
            reached("boundary is kept")
        if self._clock.monotonic() > self._looked + _LOOKS:
            self._looked = self._clock.monotonic()
            if self._books.runs.get(self.run.id).state == "cancelled":
                raise Cancelled

    def _keep(self, artifact: Artifact) -> None:
        """Name an artifact; one that was being collected is taken back, as long as its bytes are there.

        A collection deletes bytes while it holds the ledger: what is there now stays. What is gone stays marked, so
        that whoever needs it makes it again.
        """
        try:
            self._books.artifacts.add(artifact)
        except Conflict:
            if self._books.artifacts.get(artifact.id).collected and self._blobs.has(artifact.id):
                self._books.artifacts.change(artifact.id, lambda _: replace(artifact, collected=None))

    def _judged(self, verdict: Verdict, step: StepRun) -> None:
        now = self._clock.now()
        stored = replace(
            verdict,
            run=self.run.id,
            environment=self.run.environment,
            model=verdict.model or self.run.model,
            time=now,
        )
        self._books.verdicts.add(stored)
        if not verdict.quiet:
            tell(
                self._books,
                self._clock,
                "verdict",
                verdict.subject,
                environment=self.run.environment,
                key=f"verdict/{stored.id}",
                cause=stored.id,
                payload=to_builtins(
                    VerdictPayload(
                        check=verdict.check,
                        outcome=verdict.outcome,
                        action=verdict.action,
                        reason=verdict.reason,
                        model=stored.model,
                        run=self.run.id,
                        step=step.step,
                    )
                ),
            )

    def _measured(self, metrics: tuple[Metrics, ...]) -> None:
        named = {
            f"{one.about}_{name}" if one.about else name: value for one in metrics for name, value in one.values.items()
        }
        if named:
            self._change(metrics=self.run.metrics | named)

    def _change(self, **facts: Any) -> None:
        self.run = self._books.runs.change(
            self.run.id,
            lambda run: replace(run, **(facts if run.state != "cancelled" else facts | {"state": run.state})),
        )

    def close(self, state: RunState, error: str = "", interruption: Interruption = "") -> Run:
        """Write what was noted last, and that the run is over; a cancelled run stays cancelled."""
        ended: datetime = self._clock.now()
        seconds = self._clock.monotonic() - self._began
        reached("run closes")
        with self._books.transaction():
            for write in self._noted:
                write()
            self._change(state=state, ended=ended, seconds=seconds, error=error, interruption=interruption)
            tell(
                self._books,
                self._clock,
                "run",
                self.run.pipeline,
                environment=self.run.environment,
                key=f"run/{self.run.id}/{len(self.run.attempts) + 1}",
                cause=self.run.id,
                payload=to_builtins(
                    RunPayload(state=self.run.state, pipeline=self.run.pipeline, model=self.run.model, error=error)
                ),
            )
            reached("run's end is written")
        reached("run is over")
        return self.run


def new_run(session: Session, graph: Graph, cause: dict[str, Any], engine: str) -> Run:
    """A run that begins now; it is not written yet."""
    return Run(
        id=session.clock.mint(),
        pipeline=graph.pipeline,
        environment=session.workspace.environment,
        state="running",
        started=session.clock.now(),
        model=_model_of(graph),
        params={name: _plain(value) for name, value in graph.params.items() if not _is_context(value)},
        cause=cause,
        engine=engine,
        **_circumstances(session, graph),
    )


def another_attempt(run: Run, session: Session, graph: Graph, cause: dict[str, Any], engine: str) -> Run:
    """A run that is taken up again: how it went before is kept."""
    earlier = Attempt(
        started=run.started,
        ended=run.ended,
        state=run.state if run.state != "running" else "interrupted",
        cause=run.cause,
        code=run.code,
        software=run.software,
        error=run.error,
        interruption=run.interruption if run.state != "running" else "crash",
    )
    return replace(
        run,
        state="running",
        started=session.clock.now(),
        ended=None,
        seconds=None,
        error="",
        interruption="",
        cause=run.cause | {"resumed": cause},
        engine=engine,
        attempts=(*run.attempts, earlier),
        **_circumstances(session, graph),
    )


def _circumstances(session: Session, graph: Graph) -> dict[str, Any]:
    return {
        "code": session.code_state | {"policy": session.project.policy_digest},
        "software": session.software,
        "packages": session.packages_digest,
        "host": session.host,
        "graph": {node.name: list(node.needs) for node in graph.nodes.values()},
    }


def _model_of(graph: Graph) -> str:
    models = [value.name for value in graph.params.values() if isinstance(value, ModelPolicy)]
    return models[0] if models else ""


def _is_context(value: Any) -> bool:
    return isinstance(value, ModelPolicy | FeatureSet)


def _plain(value: Any) -> Any:
    """A parameter as the ledger keeps it: JSON has no numbers that are not finite, but they can be read from text."""
    try:
        plain = to_builtins(value)
    except TypeError:
        return repr(value)
    return _finite(plain)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {name: _finite(member) for name, member in value.items()}
    return [_finite(member) for member in value] if isinstance(value, list | tuple) else value
