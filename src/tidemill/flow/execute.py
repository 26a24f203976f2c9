"""Executes the steps of one graph: uses cached results, submits the rest to the engine, records each transition."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from tidemill.blobs.artifacts import read_artifact, write_artifact
from tidemill.core.artifact import Artifact
from tidemill.core.check import Verdict
from tidemill.core.context import Context
from tidemill.core.pipeline import Graph, Node
from tidemill.core.run import CacheDecision, Metrics, StepRun
from tidemill.errors import StepFailed, Stopped, TidemillError
from tidemill.faults import maybe_crash
from tidemill.flow.cache import REASONS, StepCache
from tidemill.flow.capture import shorten_log
from tidemill.flow.record import Recorder
from tidemill.flow.session import Session, find_side_effects, is_reproducible
from tidemill.flow.tasks import Engine, Task, TaskOutcome, iterate_instances, retry_delay
from tidemill.flow.wiring import Wiring, digest

Progress = Callable[[StepRun], None]
_Verdicts = dict[str, tuple[Verdict, ...]]


class StartState(Struct, frozen=True):
    """The steps and outputs that exist when a run starts.

    `completed` are the steps that earlier attempts of the run finished; `provided` are outputs of another run, by node;
    `forced` are the steps that run even if the cache has their results.
    """

    completed: Mapping[str, StepRun]
    provided: Mapping[str, dict[str, Artifact]]
    forced: frozenset[str] = frozenset()


FRESH_START = StartState({}, {})


class Execution:
    """One execution of a graph: a step starts when all its inputs exist and the engine has a free slot.

    A cached step does not run; a transient step runs only if another step needs its value. After a failure no new step
    starts, and the running steps finish.
    """

    def __init__(
        self,
        session: Session,
        graph: Graph,
        recorder: Recorder,
        engine: Engine,
        progress: Progress | None = None,
        start: StartState = FRESH_START,
    ) -> None:
        self._session = session
        self._recorder = recorder
        self._engine = engine
        self._progress = progress or (lambda _: None)
        self._start = start
        self._blobs = session.workspace.blobs
        self._cache = StepCache(session.workspace.ledger, self._blobs, session.shared_results)
        self._wiring = Wiring(graph, self._blobs, start.provided)
        self._deferred: dict[str, StepRun] = {}
        self._ready: list[tuple[Node, StepRun]] = []
        self._running: dict[str, tuple[Task, StepRun]] = {}
        self._delayed: list[tuple[float, str]] = []
        self._unreported: list[StepRun] = []
        self._error: TidemillError | None = None
        for node in graph.nodes.values():  # now, because the source may be edited while the run lasts
            session.fingerprint(node.step.function)

    def run(self) -> None:
        """Execute the graph.

        Raises
        ------
        Stopped
            If a step returned a verdict that stops the run.
        StepFailed
            If a step raised an error.
        """
        try:
            self._advance()
            while self._running:
                self._wait()
                self._advance()
        except BaseException:
            self._engine.stop()
            now = self._session.clock.now()
            for _, record in self._running.values():
                self._recorder.change(replace(record, state="interrupted", ended=now))
            raise
        finally:
            self._cache.release_claims()
        if self._error is not None:
            raise self._error
        for record in self._deferred.values():
            self._record_finish(replace(record, state="skipped", **_decision_fields("unneeded")), is_begun=False)
        self._write_changes()

    def _advance(self) -> None:
        """Resolve the nodes whose inputs exist, start steps while slots are free, and write one transaction."""
        wiring = self._wiring
        while wiring.runnable and self._error is None:
            for node in sorted(wiring.runnable, key=lambda node: wiring.positions[node.name]):
                wiring.runnable.remove(node)
                self._expand_mapped_node(node) if node.mapped_parameter else self._resolve(node)
        self._ready.sort(key=lambda ready: ready[1].position)
        started: list[Task] = []
        free_slots = self._engine.count_free_slots() - len(self._delayed)
        while self._ready and free_slots > len(started) and self._error is None:
            node, resolved = self._ready.pop(0)
            record = replace(resolved, started=self._session.clock.now())
            started.append(self._create_task(node))
            self._running[node.name] = started[-1], record
            self._recorder.begin(record)
            self._unreported.append(record)
        maybe_crash("steps are resolved")
        self._write_changes()
        for task in started:
            maybe_crash("step is handed over")
            self._engine.start(task)

    def _write_changes(self) -> None:
        self._recorder.write_changes()
        records, self._unreported = self._unreported, []
        for record in records:
            self._progress(record)

    def _resolve(self, node: Node) -> None:
        """Find the outputs of a node without running it, if possible; otherwise add the node to the ready steps."""
        step = node.step
        record = self._create_record(node)
        decision: CacheDecision | None = find_side_effects(step) or (None if step.cache else "off")
        if step.transient and decision is None and node.name not in self._start.forced:
            digests = {output: digest("transient", [record.key, output]) for output in step.outputs}
            artifacts = {
                output: Artifact(id=identifier, kind="transient", size=0, transient=True)
                for output, identifier in digests.items()
            }
            self._deferred[node.name] = record
            self._wiring.set_outputs(node.name, artifacts, computed_by=self._create_task(node, digests))
            return
        if self._reuse_earlier_attempt(node, record):
            return
        if node.name in self._start.forced:
            decision = "requested"
        if decision is not None:
            self._ready.append((node, replace(record, **_decision_fields(decision))))
            return
        lookup = self._cache.find(record.key, step.outputs)
        if (
            lookup.step is None
            and self._session.shared_results is not None
            and is_reproducible(self._create_task(node))
        ):
            lookup = self._cache.find_shared(record.key) or lookup
        if lookup.step is not None:
            record = replace(record, decision=lookup.decision, reason=lookup.reason)
            self._reuse_cached(node, record, lookup.step, lookup.artifacts)
            return
        change = ""
        if lookup.decision == "new":
            change = self._cache.find_change(record, self._recorder.run.pipeline, step, self._session.project.folder)
        self._ready.append((node, replace(record, decision=lookup.decision, reason=change or lookup.reason)))

    def _create_record(self, node: Node) -> StepRun:
        inputs = self._wiring.digest_inputs(node)
        code = self._session.fingerprint(node.step.function)
        input_keys = (f"{name}={digest}" for name, digest in sorted(inputs.items()))
        now = self._session.clock.now()
        run = self._recorder.run
        declarations = self._session.list_declarations(node)
        if "image" in run.code:  # the packages of the image, and not those of this process, compute the result
            declarations.append(f"image:{run.code['image']}")
        return StepRun(
            id=self._session.clock.mint(),
            run=run.id,
            step=node.name,
            position=self._wiring.positions[node.name],
            state="running",
            reason="",
            key=digest("step", [run.environment, code, *input_keys, *declarations]),
            code=code,
            executor=self._engine.name,
            started=now,
            inputs=inputs,
            expires=now + node.step.retention if node.step.retention else None,
        )

    def _reuse_earlier_attempt(self, node: Node, record: StepRun) -> bool:
        """Use the result of an earlier attempt of this run if its key is unchanged; return whether it was used."""
        earlier = self._start.completed.get(node.name)
        if earlier is None or earlier.key != record.key:
            return False
        artifacts, problem = self._cache.load_outputs(earlier)
        if problem:
            return False
        self._wiring.set_outputs(node.name, artifacts, earlier.verdicts)
        self._unreported.append(replace(earlier, state="cached", **_decision_fields("resumed")))
        return True

    def _reuse_cached(self, node: Node, record: StepRun, earlier: StepRun, artifacts: dict[str, Artifact]) -> None:
        """Use the result of an earlier run; its verdicts and metrics are recorded for this run, too."""
        values = {
            output: read_artifact(self._blobs, artifact, node.step.output_type(output))
            for output, artifact in artifacts.items()
            if artifact.summary.get("judges") or artifact.summary.get("measures")
        }
        verdicts = self._mint_ids(
            {output: tuple(iterate_instances((value,), Verdict)) for output, value in values.items()}
        )
        reused = replace(
            record,
            verdicts=_collect_ids(verdicts),
            state="cached",
            seconds=0.0,
            ended=record.started,
            outputs=dict(earlier.outputs),
        )
        self._wiring.set_outputs(node.name, artifacts, reused.verdicts)
        metrics = tuple(iterate_instances(values.values(), Metrics))
        self._record_finish(reused, tuple(artifacts.values()), verdicts, metrics, is_begun=False)

    def _wait(self) -> None:
        """Wait until a step finishes or the retry of a failed step is due."""
        now = self._session.clock.monotonic()
        pauses = [retry_at - now for retry_at, _ in self._delayed]
        if len(self._running) > len(self._delayed):
            for name, outcome in self._engine.wait(max(0.0, min([_POLL_SECONDS, *pauses]))):
                maybe_crash("outcome is received")
                self._receive(name, outcome)
        elif self._error is None:
            self._session.clock.sleep(max(0.0, min(pauses)))
            now += max(0.0, min(pauses))
        due = [name for retry_at, name in self._delayed if retry_at <= now or self._error is not None]
        self._delayed = [(retry_at, name) for retry_at, name in self._delayed if name not in due]
        for name in due:
            task, record = self._running[name]
            if self._error is None:
                self._engine.start(task)
            else:
                del self._running[name]
                self._record_finish(replace(record, state="interrupted", ended=self._session.clock.now()))

    def _receive(self, name: str, outcome: TaskOutcome) -> None:
        """Process the outcome of a task: schedule a retry, or record the result."""
        task, record = self._running[name]
        failure = outcome.failure
        if failure is not None and failure.retryable and record.attempt <= task.step.retries and self._error is None:
            self._delayed.append((self._session.clock.monotonic() + retry_delay(record.attempt), name))
            record = replace(record, attempt=record.attempt + 1, error=failure.text)
            self._running[name] = task, record
            self._recorder.change(record)
            self._unreported.append(record)
            return
        del self._running[name]
        for node, transient_outcome in outcome.transient.items():
            if node in self._deferred:
                self._record_outcome(
                    replace(self._deferred.pop(node), **_decision_fields("needed")), transient_outcome, is_begun=False
                )
        self._record_outcome(record, outcome)

    def _record_outcome(self, record: StepRun, outcome: TaskOutcome, *, is_begun: bool = True) -> None:
        log, blob = self._store_log(outcome.log)
        ended = self._session.clock.now()
        started = record.started if is_begun else max(record.started, ended - timedelta(seconds=outcome.seconds))
        record = replace(
            record,
            started=started,
            seconds=outcome.seconds,
            ended=ended,
            executor=outcome.executor or record.executor,
            log=log,
            log_blob=blob,
        )
        if outcome.failure is not None:
            self._record_finish(replace(record, state="failed", error=outcome.failure.text), is_begun=is_begun)
            self._error = self._error or _create_step_error(record, outcome)
            return
        artifacts, verdicts = outcome.artifacts, self._mint_ids(outcome.verdicts)
        outputs = {name: artifact.id for name, artifact in artifacts.items()}
        record = replace(record, state="ran", error="", outputs=outputs, verdicts=_collect_ids(verdicts))
        if is_begun:
            self._wiring.set_outputs(record.step, artifacts, record.verdicts)
        self._record_finish(record, tuple(artifacts.values()), verdicts, outcome.metrics, is_begun=is_begun)

    def _mint_ids(self, verdicts: Mapping[str, tuple[Verdict, ...]]) -> _Verdicts:
        """Return the verdicts with the ids under which the ledger stores them; later steps get the same ids.

        The ids are new, except those of verdicts that the step itself has recorded while it ran.
        """
        mint = self._session.clock.mint
        return {
            output: tuple(
                verdict if self._recorder.has_recorded(verdict) else replace(verdict, id=mint()) for verdict in group
            )
            for output, group in verdicts.items()
            if group
        }

    def _record_finish(
        self,
        record: StepRun,
        artifacts: tuple[Artifact, ...] = (),
        verdicts: _Verdicts | None = None,
        metrics: tuple[Metrics, ...] = (),
        *,
        is_begun: bool = True,
    ) -> None:
        stored = tuple(verdict for group in (verdicts or {}).values() for verdict in group)
        stops = [verdict for verdict in stored if verdict.stops]
        if stops:
            record = replace(record, stops=True, reason=f"the verdict of the step stopped the run; {record.reason}")
            others = f" (and {len(stops) - 1} more verdicts stopped it)" if len(stops) > 1 else ""
            path = f"{stops[0].evidence['path']}: " if stops[0].evidence.get("path") else ""
            self._error = self._error or Stopped(
                f"check {stops[0].check!r} stopped the run at step {record.step!r}: {path}{stops[0].reason}{others}",
                f"see `tidemill runs show {record.run[:13]}`",
            )
        self._recorder.finish(record, artifacts, stored, metrics, is_begun=is_begun)
        self._cache.publish(record, artifacts)
        self._unreported.append(record)

    def _store_log(self, text: str) -> tuple[str, str]:
        short = shorten_log(text)
        return short, "" if short == text else write_artifact(self._blobs, text.encode()).id

    def _create_task(self, node: Node, transient: dict[str, str] | None = None) -> Task:
        run = self._recorder.run
        return Task(
            node=node.name,
            step=node.step,
            arguments=self._wiring.resolve_arguments(node),
            context=Context(run=run.id, step=node.name, environment=run.environment, model=run.model, cause=run.cause),
            transient=transient or {},
        )

    def _expand_mapped_node(self, node: Node) -> None:
        try:
            self._wiring.expand(node)
        except TidemillError as error:
            self._error = self._error or error


_POLL_SECONDS = 1.0


def _decision_fields(decision: CacheDecision) -> dict[str, Any]:
    return {"decision": decision, "reason": REASONS[decision]}


def _collect_ids(verdicts: _Verdicts) -> dict[str, tuple[str, ...]]:
    return {output: tuple(verdict.id for verdict in group) for output, group in verdicts.items()}


def _create_step_error(record: StepRun, outcome: TaskOutcome) -> TidemillError:
    failure = outcome.failure
    assert failure is not None
    if failure.error is not None:
        failure.error.problem = f"step {record.step!r}: {failure.error.problem}"
        return failure.error
    error = StepFailed(
        record.step,
        f"step {record.step!r} failed: {failure.text}",
        f"see `tidemill runs logs {record.run[:13]}`, fix the cause, and run `tidemill runs resume {record.run[:13]}`",
        outcome.log,
    )
    error.__cause__ = failure.raised
    return error
