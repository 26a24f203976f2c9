"""Runs the steps of one graph: takes what is cached, hands the rest to the engine, records each boundary."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from tidemill.blobs.artifacts import keep, read
from tidemill.core.artifact import Artifact
from tidemill.core.check import Verdict
from tidemill.core.context import Context
from tidemill.core.pipeline import Graph, Node
from tidemill.core.run import CacheDecision, Metrics, StepRun
from tidemill.errors import StepFailed, Stopped, TidemillError
from tidemill.faults import reached
from tidemill.flow.cache import REASONS, Catalog
from tidemill.flow.capture import shortened
from tidemill.flow.record import Recorder
from tidemill.flow.session import Session, depends_on_the_world, follows_from_inputs
from tidemill.flow.tasks import Engine, Outcome, Task, of_kind, pause
from tidemill.flow.wiring import Wiring, digest

Progress = Callable[[StepRun], None]
_Verdicts = dict[str, tuple[Verdict, ...]]


class Start(Struct, frozen=True):
    """What a run begins with: `before` has what its earlier tries finished; `given` what another run gave, by node;
    `fresh` are the steps that run whatever the cache has.
    """

    before: Mapping[str, StepRun]
    given: Mapping[str, dict[str, Artifact]]
    fresh: frozenset[str] = frozenset()


FROM_NOTHING = Start({}, {})


class Execution:
    """One walk over a graph: a step starts when all that it takes is known and the engine has room for it.

    A cached step is not run; a transient one only where somebody needs its value. After a failure nothing new starts,
    and what runs beside it is waited for.
    """

    def __init__(
        self,
        session: Session,
        graph: Graph,
        recorder: Recorder,
        engine: Engine,
        progress: Progress | None = None,
        start: Start = FROM_NOTHING,
    ) -> None:
        self._session = session
        self._recorder = recorder
        self._engine = engine
        self._progress = progress or (lambda _: None)
        self._start = start
        self._blobs = session.workspace.blobs
        self._catalog = Catalog(session.workspace.ledger, self._blobs, session.memory)
        self._wiring = Wiring(graph, self._blobs, start.given)
        self._unmade: dict[str, StepRun] = {}
        self._ready: list[tuple[Node, StepRun]] = []
        self._running: dict[str, tuple[Task, StepRun]] = {}
        self._delayed: list[tuple[float, str]] = []
        self._told: list[StepRun] = []
        self._error: TidemillError | None = None

    def walk(self) -> None:
        """Run what must run.

        Raises
        ------
        Stopped
            when a step returned a verdict that stops the run.
        StepFailed
            when a step raised.
        """
        try:
            self._advance()
            while self._running:
                self._await()
                self._advance()
        except BaseException:
            self._engine.stop()
            now = self._session.clock.now()
            for _, record in self._running.values():
                self._recorder.change(replace(record, state="interrupted", ended=now))
            raise
        finally:
            self._catalog.leave()
        if self._error is not None:
            raise self._error
        for left in self._unmade.values():
            self._over(replace(left, state="skipped", **_decided("unneeded")), begun=False)
        self._boundary()

    def _advance(self) -> None:
        """Settle what can be settled, and start what can start, in the order of the calls; then one boundary."""
        wiring = self._wiring
        while wiring.free and self._error is None:
            for node in sorted(wiring.free, key=lambda node: wiring.positions[node.name]):
                wiring.free.remove(node)
                self._expand(node) if node.over else self._settle(node)
        self._ready.sort(key=lambda ready: ready[1].position)
        started: list[Task] = []
        room = self._engine.room() - len(self._delayed)
        while self._ready and room > len(started) and self._error is None:
            node, settled = self._ready.pop(0)
            record = replace(settled, started=self._session.clock.now())
            started.append(self._task(node))
            self._running[node.name] = started[-1], record
            self._recorder.begin(record)
            self._told.append(record)
        reached("steps are settled")
        self._boundary()
        for task in started:
            reached("step is handed over")
            self._engine.start(task)

    def _boundary(self) -> None:
        self._recorder.boundary()
        told, self._told = self._told, []
        for record in told:
            self._progress(record)

    def _settle(self, node: Node) -> None:
        """Know what a node gives, by the cheapest way that is true; what must run for it is ready then."""
        step = node.step
        record = self._record(node)
        decision: CacheDecision | None = depends_on_the_world(step) or (None if step.cache else "off")
        if step.transient and decision is None and node.name not in self._start.fresh:
            names = {output: digest("transient", [record.key, output]) for output in step.outputs}
            named = {out: Artifact(id=name, kind="transient", size=0, transient=True) for out, name in names.items()}
            self._unmade[node.name] = record
            self._wiring.give(node.name, named, made_by=self._task(node, names))
            return
        if self._is_done(node, record):
            return
        if node.name in self._start.fresh:
            decision = "requested"
        if decision is not None:
            self._ready.append((node, replace(record, **_decided(decision))))
            return
        found = self._catalog.find(record.key, step.outputs)
        if found.step is None and self._session.memory is not None and follows_from_inputs(self._task(node)):
            found = self._catalog.recall(record.key) or found
        record = replace(record, decision=found.decision, reason=found.reason)
        if found.step is not None:
            self._take(node, record, found.step, found.artifacts)
        else:
            self._ready.append((node, record))

    def _record(self, node: Node) -> StepRun:
        inputs = self._wiring.digests(node)
        code = self._session.fingerprint(node.step.function)
        named = (f"{name}={digest}" for name, digest in sorted(inputs.items()))
        now = self._session.clock.now()
        return StepRun(
            id=self._session.clock.mint(),
            run=self._recorder.run.id,
            step=node.name,
            position=self._wiring.positions[node.name],
            state="running",
            reason="",
            key=digest("step", [self._recorder.run.environment, code, *named, *self._session.declared(node)]),
            code=code,
            executor=self._engine.name,
            started=now,
            inputs=inputs,
            expires=now + node.step.retention if node.step.retention else None,
        )

    def _is_done(self, node: Node, record: StepRun) -> bool:
        """Take what an earlier try of this run finished, if it would be the same now."""
        before = self._start.before.get(node.name)
        if before is None or before.key != record.key:
            return False
        artifacts, wrong = self._catalog.gave(before)
        if wrong:
            return False
        self._wiring.give(node.name, artifacts, before.verdicts)
        self._told.append(replace(before, state="cached", **_decided("resumed")))
        return True

    def _take(self, node: Node, record: StepRun, earlier: StepRun, artifacts: dict[str, Artifact]) -> None:
        """Take an earlier result: its verdicts and metrics are this run's too."""
        told = {
            output: read(self._blobs, artifact, node.step.promised(output))
            for output, artifact in artifacts.items()
            if artifact.summary.get("judges") or artifact.summary.get("measures")
        }
        verdicts = self._identified({output: tuple(of_kind((value,), Verdict)) for output, value in told.items()})
        taken = replace(
            record,
            verdicts=_ids(verdicts),
            state="cached",
            seconds=0.0,
            ended=record.started,
            outputs=dict(earlier.outputs),
        )
        self._wiring.give(node.name, artifacts, taken.verdicts)
        measured = tuple(of_kind(told.values(), Metrics))
        self._over(taken, tuple(artifacts.values()), verdicts, measured, begun=False)

    def _await(self) -> None:
        """Wait until a step is over, or one that failed may be tried again."""
        now = self._session.clock.monotonic()
        pauses = [moment - now for moment, _ in self._delayed]
        if len(self._running) > len(self._delayed):
            for name, outcome in self._engine.wait(max(0.0, min([_LOOKS, *pauses]))):
                reached("outcome is here")
                self._came(name, outcome)
        elif self._error is None:
            self._session.clock.sleep(max(0.0, min(pauses)))
            now += max(0.0, min(pauses))
        due = [name for moment, name in self._delayed if moment <= now or self._error is not None]
        self._delayed = [(moment, name) for moment, name in self._delayed if name not in due]
        for name in due:
            task, record = self._running[name]
            if self._error is None:
                self._engine.start(task)
            else:
                del self._running[name]
                self._over(replace(record, state="interrupted", ended=self._session.clock.now()))

    def _came(self, name: str, outcome: Outcome) -> None:
        """Take in what became of a task."""
        task, record = self._running[name]
        failure = outcome.failure
        if failure is not None and failure.again and record.attempt <= task.step.retries and self._error is None:
            self._delayed.append((self._session.clock.monotonic() + pause(record.attempt), name))
            record = replace(record, attempt=record.attempt + 1, error=failure.text)
            self._running[name] = task, record
            self._recorder.change(record)
            self._told.append(record)
            return
        del self._running[name]
        for made, one in outcome.made.items():
            if made in self._unmade:
                self._end(replace(self._unmade.pop(made), **_decided("needed")), one, begun=False)
        self._end(record, outcome)

    def _end(self, record: StepRun, outcome: Outcome, *, begun: bool = True) -> None:
        log, blob = self._keep_log(outcome.log)
        ended = self._session.clock.now()
        began = record.started if begun else max(record.started, ended - timedelta(seconds=outcome.seconds))
        record = replace(
            record,
            started=began,
            seconds=outcome.seconds,
            ended=ended,
            executor=outcome.executor or record.executor,
            log=log,
            log_blob=blob,
        )
        if outcome.failure is not None:
            self._over(replace(record, state="failed", error=outcome.failure.text), begun=begun)
            self._error = self._error or _error_of(record, outcome)
            return
        given, verdicts = outcome.artifacts, self._identified(outcome.verdicts)
        outputs = {name: one.id for name, one in given.items()}
        record = replace(record, state="ran", error="", outputs=outputs, verdicts=_ids(verdicts))
        if begun:
            self._wiring.give(record.step, given, record.verdicts)
        self._over(record, tuple(given.values()), verdicts, outcome.metrics, begun=begun)

    def _identified(self, verdicts: Mapping[str, tuple[Verdict, ...]]) -> _Verdicts:
        """Verdicts with the ids under which they are stored; the steps that receive them see the same ids."""
        mint = self._session.clock.mint
        return {output: tuple(replace(one, id=mint()) for one in some) for output, some in verdicts.items() if some}

    def _over(
        self,
        record: StepRun,
        artifacts: tuple[Artifact, ...] = (),
        verdicts: _Verdicts | None = None,
        metrics: tuple[Metrics, ...] = (),
        *,
        begun: bool = True,
    ) -> None:
        judged = tuple(one for some in (verdicts or {}).values() for one in some)
        stops = [verdict for verdict in judged if verdict.stops]
        if stops:
            record = replace(record, stops=True, reason=f"its verdict stopped the run; {record.reason}")
            others = f"; so did {len(stops) - 1} more" if len(stops) > 1 else ""
            self._error = self._error or Stopped(
                f"check {stops[0].check!r} stopped the run at step {record.step!r}: {stops[0].reason}{others}",
                f"see `tidemill runs show {record.run[:13]}`",
            )
        self._recorder.finish(record, artifacts, judged, metrics, begun=begun)
        self._catalog.over(record, artifacts)
        self._told.append(record)

    def _keep_log(self, text: str) -> tuple[str, str]:
        short = shortened(text)
        return short, "" if short == text else keep(self._blobs, text.encode()).id

    def _task(self, node: Node, transient: dict[str, str] | None = None) -> Task:
        run = self._recorder.run
        return Task(
            node=node.name,
            step=node.step,
            arguments=self._wiring.arguments(node),
            context=Context(run=run.id, step=node.name, environment=run.environment, model=run.model, cause=run.cause),
            transient=transient or {},
        )

    def _expand(self, node: Node) -> None:
        try:
            self._wiring.expand(node)
        except TidemillError as wrong:
            self._error = self._error or wrong


_LOOKS = 1.0


def _decided(decision: CacheDecision) -> dict[str, Any]:
    return {"decision": decision, "reason": REASONS[decision]}


def _ids(verdicts: _Verdicts) -> dict[str, tuple[str, ...]]:
    return {output: tuple(one.id for one in some) for output, some in verdicts.items()}


def _error_of(record: StepRun, outcome: Outcome) -> TidemillError:
    failure = outcome.failure
    assert failure is not None
    if failure.error is not None:
        failure.error.problem = f"step {record.step!r}: {failure.error.problem}"
        return failure.error
    error = StepFailed(
        record.step,
        f"step {record.step!r} failed: {failure.text}",
        f"see `tidemill runs logs {record.run[:13]}`, mend it and `tidemill runs resume {record.run[:13]}`",
        outcome.log,
    )
    error.__cause__ = failure.raised
    return error
