"""Writes the records of a run (steps, artifacts, verdicts, metrics, events), one transaction for each transition."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from math import isfinite
from typing import Any

from msgspec import to_builtins
from msgspec.structs import replace

from tidemill.clock import Clock
from tidemill.core.artifact import Artifact
from tidemill.core.check import Verdict
from tidemill.core.engine import StepImage, StepImages
from tidemill.core.event import RunPayload, VerdictPayload
from tidemill.core.feature import FeatureSet
from tidemill.core.pipeline import Graph
from tidemill.core.policy import ModelPolicy
from tidemill.core.run import Attempt, Interruption, Metrics, Run, RunState, StepRun
from tidemill.errors import Cancelled, Conflict, TidemillError
from tidemill.faults import maybe_crash
from tidemill.flow.session import Session, select_main
from tidemill.ledger.events import record_event

_CANCEL_CHECK_SECONDS = 1.0


class Recorder:
    """Collects the changes of one run; `write_changes` writes them to the ledger in one transaction."""

    def __init__(self, session: Session, run: Run) -> None:
        self._clock: Clock = session.clock
        self._books = session.workspace.ledger
        self._blobs = session.workspace.blobs
        self._started = self._cancel_checked = session.clock.monotonic()
        self._pending: list[Callable[[], Any]] = []
        self.run = run

    def begin(self, step: StepRun) -> None:
        """Add that a step starts: if the process dies while the step runs, the ledger names the step."""
        self._pending.append(lambda: self._books.steps.add(step))

    def change(self, step: StepRun) -> None:
        """Add the new state of a step that was started."""
        self._pending.append(lambda: self._books.steps.change(step.id, lambda _: step))

    def finish(
        self,
        step: StepRun,
        artifacts: tuple[Artifact, ...] = (),
        verdicts: tuple[Verdict, ...] = (),
        metrics: tuple[Metrics, ...] = (),
        *,
        is_begun: bool = True,
    ) -> None:
        """Add that a step finished, with its outputs, verdicts and metrics.

        `is_begun` is true if `begin` added the start of the step before.
        """

        def write() -> None:
            if is_begun:
                self._books.steps.change(step.id, lambda _: step)
            else:
                self._books.steps.add(step)
            maybe_crash("step is written")
            for artifact in artifacts:
                self._write_artifact(artifact)
            maybe_crash("artifacts are written")
            for verdict in verdicts:
                self._write_verdict(verdict, step)
                maybe_crash("verdict is written")
            self._write_metrics(metrics)
            maybe_crash("metrics are written")

        self._pending.append(write)

    def write_changes(self) -> None:
        """Write the pending changes in one transaction.

        Raises
        ------
        Cancelled
            If the run was cancelled in the meantime.
        """
        if self._pending:
            maybe_crash("transaction begins")
            with self._books.transaction():
                for write in self._pending:
                    write()
                maybe_crash("transaction is written")
            self._pending = []
            maybe_crash("transaction is committed")
        if self._clock.monotonic() > self._cancel_checked + _CANCEL_CHECK_SECONDS:
            self._cancel_checked = self._clock.monotonic()
            if self._books.runs.get(self.run.id).state == "cancelled":
                raise Cancelled

    def _write_artifact(self, artifact: Artifact) -> None:
        """Write an artifact; if gc marked it as collected and its bytes still exist, remove the mark.

        gc deletes bytes inside a transaction of the ledger, so bytes that exist now stay. An artifact without bytes
        keeps the mark, and the step that needs it computes it again.
        """
        try:
            self._books.artifacts.add(artifact)
        except Conflict:
            if self._books.artifacts.get(artifact.id).collected and self._blobs.has(artifact.id):
                self._books.artifacts.change(artifact.id, lambda _: replace(artifact, collected=None))

    def has_recorded(self, verdict: Verdict) -> bool:
        """Return whether a step of this run has already recorded a verdict, which then has an id and its run."""
        return bool(verdict.id) and verdict.run == self.run.id

    def _write_verdict(self, verdict: Verdict, step: StepRun) -> None:
        if self.has_recorded(verdict):
            return
        now = self._clock.now()
        stored = replace(
            verdict,
            run=self.run.id,
            environment=self.run.environment,
            model=verdict.model or self.run.model,
            time=now,
        )
        self._books.verdicts.add(stored)
        if not verdict.needs_no_action:
            record_event(
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

    def _write_metrics(self, metrics: tuple[Metrics, ...]) -> None:
        values = {
            f"{group.about}_{name}" if group.about else name: value
            for group in metrics
            for name, value in group.values.items()
        }
        if values:
            self._change(metrics=self.run.metrics | values)

    def _change(self, **fields: Any) -> None:
        self.run = self._books.runs.change(
            self.run.id,
            lambda run: replace(run, **(fields if run.state != "cancelled" else fields | {"state": run.state})),
        )

    def close(self, state: RunState, error: str = "", interruption: Interruption = "") -> Run:
        """Write the pending changes and the final state of the run; a cancelled run stays cancelled."""
        ended: datetime = self._clock.now()
        seconds = self._clock.monotonic() - self._started
        maybe_crash("run closes")
        with self._books.transaction():
            for write in self._pending:
                write()
            self._change(state=state, ended=ended, seconds=seconds, error=error, interruption=interruption)
            record_event(
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
            maybe_crash("run's end is written")
        maybe_crash("run is finished")
        return self.run


def new_run(session: Session, graph: Graph, cause: dict[str, Any], engine: str) -> Run:
    """Return a new run that starts now; it is not written to the ledger."""
    engine = engine or _choose_engine(session, graph.pipeline)
    return Run(
        id=session.clock.mint(),
        pipeline=graph.pipeline,
        environment=session.workspace.environment,
        state="running",
        started=session.clock.now(),
        model=_model_name(graph),
        params={name: _plain(value) for name, value in graph.params.items() if not _is_context(value)},
        cause=cause,
        engine=engine,
        **_describe_environment(session, graph, engine),
    )


def start_attempt(run: Run, session: Session, graph: Graph, cause: dict[str, Any], engine: str) -> Run:
    """Return a run with a new attempt; the earlier attempt is added to its history."""
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
        **_describe_environment(session, graph, engine),
    )


def _choose_engine(session: Session, pipeline: str) -> str:
    """Return the engine of a pipeline in the policy; a session with resources of its own runs in its process."""
    settings = session.project.policy.pipelines.get(pipeline)
    return settings.engine if settings is not None and session.reopen is not None else "inline"


def _describe_environment(session: Session, graph: Graph, engine: str) -> dict[str, Any]:
    image = _find_image(session, graph.pipeline) if engine == "container" else None
    return {
        "code": session.code_state
        | {"policy": session.project.policy_digest}
        | ({"image": image.digest} if image is not None else {}),
        "software": session.software if image is None else select_main(image.python, image.packages),
        "packages": session.packages_digest if image is None else _store_packages(session, image),
        "host": session.host,
        "graph": {node.name: list(node.needs) for node in graph.nodes.values()},
    }


def _find_image(session: Session, pipeline: str) -> StepImage | None:
    """Return the image of the steps; None if there is none, which the first step reports."""
    images: StepImages = session.resource(StepImages)
    with suppress(TidemillError):
        return images.choose(pipeline)
    return None


def _store_packages(session: Session, image: StepImage) -> str:
    """Return the digest of a blob that lists the packages of an image."""
    lines = (f"{name}=={version}" for name, version in sorted(image.packages.items()))
    return session.workspace.blobs.put("\n".join(lines).encode())


def _model_name(graph: Graph) -> str:
    models = [value.name for value in graph.params.values() if isinstance(value, ModelPolicy)]
    return models[0] if models else ""


def _is_context(value: Any) -> bool:
    return isinstance(value, ModelPolicy | FeatureSet)


def _plain(value: Any) -> Any:
    """Return a parameter as JSON data for the ledger; infinite numbers and NaN, which JSON lacks, become text."""
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
