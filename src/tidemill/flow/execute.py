"""Runs the steps of one graph: moves artifacts in and out, takes what is cached, makes again what is transient."""

import hashlib
import time
import traceback
from collections.abc import Callable
from typing import Any, get_args, get_origin

import msgspec
from msgspec.structs import replace

from tidemill.core.artifact import Artifact
from tidemill.core.check import Verdict
from tidemill.core.pipeline import Graph, Node, Ref, holds_refs
from tidemill.core.resources import Context
from tidemill.core.run import StepRun
from tidemill.errors import StepFailed, Stopped, TidemillError, Transient
from tidemill.flow.record import Recorder
from tidemill.flow.session import WRITABLE, Session, is_resource
from tidemill.store.codecs import codec_for, codec_of

Progress = Callable[[StepRun], None]


class Execution:
    """One walk over a graph, in the order in which its steps were called.

    A cached step is not run; a transient one only when somebody needs its value. What was computed or read stays in
    memory until the walk is over.
    """

    def __init__(self, session: Session, graph: Graph, recorder: Recorder, progress: Progress | None = None) -> None:
        self._session = session
        self._graph = graph
        self._recorder = recorder
        self._progress = progress or (lambda _: None)
        self._books = session.workspace.ledger
        self._blobs = session.workspace.blobs
        self._artifacts: dict[tuple[str, str], Artifact] = {}
        self._values: dict[tuple[str, str], Any] = {}
        self._waiting: dict[str, StepRun] = {}

    def walk(self) -> None:
        """Run what must run.

        Raises
        ------
        Stopped
            when a step returned a verdict that stops the run.
        StepFailed
            when a step raised.
        """
        for position, node in enumerate(self._graph.nodes.values()):
            self._settle(node, position)
        for left in self._waiting.values():
            self._end(
                replace(left, state="skipped", reason="transient, and nobody needed its value"), (), (), begun=False
            )

    def _settle(self, node: Node, position: int) -> None:
        """Know the digests of a node's outputs, by the cheapest way that is true."""
        step = node.step
        inputs = {name: self._digest_of(value) for name, value in node.inputs.items()}
        code = self._session.fingerprint(step.function)
        key = _hash(
            "step",
            self._recorder.run.environment,
            code,
            *(f"{name}={digest}" for name, digest in sorted(inputs.items())),
        )
        record = StepRun(
            id=self._session.clock.mint(),
            run=self._recorder.run.id,
            step=node.name,
            position=position,
            state="running",
            reason="",
            key=key,
            code=code,
            executor="inline",
            started=self._session.clock.now(),
            inputs=inputs,
        )
        if any(hint in WRITABLE for hint in step.hints.values()):
            self._run(node, replace(record, reason="it changes the world: never cached"))
        elif not step.cache:
            self._run(node, replace(record, reason="its cache is off"))
        elif step.transient:
            for output in step.outputs:
                name = _hash("transient", key, output)
                self._artifacts[node.name, output] = Artifact(id=name, kind="transient", size=0, transient=True)
            self._waiting[node.name] = record
        else:
            hit, why_not = self._cached(record, step.outputs)
            if hit is None:
                self._run(node, replace(record, reason=why_not))
            else:
                self._take(node, record, hit)

    def _cached(self, record: StepRun, outputs: tuple[str, ...]) -> tuple[StepRun | None, str]:
        """The earlier run of the same key in this environment whose artifacts are all there, or why there is none."""
        why_not = "first time with this code and these inputs"
        for earlier in self._books.steps.find(key=record.key, newest=True, limit=5):
            if earlier.state not in ("ran", "cached") or set(earlier.outputs) != set(outputs):
                continue
            lost = [digest for digest in earlier.outputs.values() if not self._blobs.has(digest)]
            if not lost:
                return earlier, ""
            why_not = f"an earlier result is gone: blob {lost[0][:12]}"
        return None, why_not

    def _take(self, node: Node, record: StepRun, earlier: StepRun) -> None:
        artifacts = {name: self._books.artifacts.get(digest) for name, digest in earlier.outputs.items()}
        for name, artifact in artifacts.items():
            self._artifacts[node.name, name] = artifact
        judged = tuple(
            self._value(Ref(node.name, name), _output_hint(node, name))
            for name, artifact in artifacts.items()
            if artifact.summary.get("judges")
        )
        taken = replace(
            record,
            state="cached",
            reason=f"same code and inputs as in run {earlier.run[:13]}",
            seconds=0.0,
            outputs=dict(earlier.outputs),
        )
        self._end(taken, judged, (), begun=False)
        self._stop_if_told(node, judged)

    def _run(self, node: Node, record: StepRun) -> None:
        values = self._arguments(node)
        self._recorder.begin(record)
        self._progress(record)
        began = time.perf_counter()
        try:
            given = self._call(node, values)
            results = given if len(node.step.outputs) > 1 else (given,)
            if len(results) != len(node.step.outputs):
                raise TidemillError(
                    f"it returned {len(results)} values, but its annotation promises {len(node.step.outputs)}",
                    "make them agree",
                )
            artifacts = tuple(
                self._keep(node, name, value) for name, value in zip(node.step.outputs, results, strict=True)
            )
        except (Exception, SystemExit) as raised:
            log = traceback.format_exc()
            seconds = time.perf_counter() - began
            failed = replace(
                record, state="failed", seconds=seconds, error=f"{type(raised).__name__}: {raised}", log=log
            )
            self._end(failed, (), (), begun=True)
            if isinstance(raised, TidemillError):
                raised.add_note(f"in step {node.name!r}")
                raise
            raise StepFailed(
                node.name,
                f"step {node.name!r} failed: {type(raised).__name__}: {raised}",
                f"see `tidemill runs logs {record.run[:13]}`, mend it and run again: what was done is kept",
                log,
            ) from raised
        done = replace(
            record,
            state="ran",
            seconds=time.perf_counter() - began,
            outputs={name: artifact.id for name, artifact in zip(node.step.outputs, artifacts, strict=True)},
        )
        self._end(done, results, artifacts, begun=True)
        self._stop_if_told(node, results)

    def _call(self, node: Node, arguments: dict[str, Any]) -> Any:
        for attempt in range(node.step.retries + 1):
            try:
                return node.step.function(**arguments)
            except Transient:
                if attempt == node.step.retries:
                    raise
                self._session.clock.sleep(min(60.0, 0.5 * 2**attempt))
        raise AssertionError

    def _arguments(self, node: Node) -> dict[str, Any]:
        hints = node.step.hints
        arguments = {name: self._resolve(value, hints.get(name, Any)) for name, value in node.inputs.items()}
        for name, hint in hints.items():
            if name in arguments or name == "return" or not is_resource(hint):
                continue
            arguments[name] = self._context(node) if hint is Context else self._session.resource(hint)
        return arguments

    def _context(self, node: Node) -> Context:
        run = self._recorder.run
        return Context(run=run.id, step=node.name, environment=run.environment, model=run.model, cause=run.cause)

    def _keep(self, node: Node, output: str, value: Any) -> Artifact:
        """Write a value to the blobs, or only name it where the step is transient."""
        self._values[node.name, output] = value
        if node.step.transient:
            # One that is never cached has no key that names its value: it is this run's own.
            own = _hash("transient", self._recorder.run.id, node.name, output)
            return self._artifacts.setdefault(
                (node.name, output), Artifact(id=own, kind="transient", size=0, transient=True)
            )
        codec = codec_for(value)
        content = codec.encode(value)
        summary = codec.summary(value)
        if isinstance(value, Verdict) or (isinstance(value, list) and value and isinstance(value[0], Verdict)):
            summary["judges"] = True
        artifact = Artifact(id=self._blobs.put(content), kind=codec.kind, size=len(content), summary=summary)
        self._artifacts[node.name, output] = artifact
        return artifact

    def _digest_of(self, value: Any) -> str:
        if isinstance(value, Ref):
            return self._artifacts[value.node, value.output].id
        if holds_refs(value):
            return _hash("list", *(self._digest_of(member) for member in value))
        return _hash("value", msgspec.json.encode(value, order="deterministic").decode())

    def _resolve(self, value: Any, hint: Any) -> Any:
        if isinstance(value, Ref):
            return self._value(value, hint)
        if holds_refs(value):
            member = (get_args(hint) or (Any,))[0]
            return [self._resolve(one, member) for one in value]
        return value

    def _value(self, ref: Ref, hint: Any) -> Any:
        """The value of a Ref: from memory, from its blob, or by running its transient step now."""
        place = (ref.node, ref.output)
        if place not in self._values:
            if ref.node in self._waiting:
                record = self._waiting.pop(ref.node)
                self._run(self._graph.nodes[ref.node], replace(record, reason="transient, and its value is needed"))
            else:
                self._values[place] = self._read(ref, self._artifacts[place], hint)
        return self._values[place]

    def _read(self, ref: Ref, artifact: Artifact, hint: Any) -> Any:
        content = self._blobs.get(artifact.id)
        try:
            return codec_of(artifact.kind).decode(content, hint)
        except (msgspec.MsgspecError, TypeError, ValueError) as wrong:
            raise TidemillError(
                f"what step {ref.node!r} gave cannot be read as {getattr(hint, '__name__', hint)}: {wrong}",
                "make the annotations of the step that gives it and of those that take it agree",
            ) from wrong

    def _end(self, record: StepRun, values: tuple[Any, ...], artifacts: tuple[Artifact, ...], *, begun: bool) -> None:
        self._recorder.finish(record, values, artifacts, begun=begun)
        self._progress(record)

    def _stop_if_told(self, node: Node, values: tuple[Any, ...]) -> None:
        for value in values:
            for verdict in value if isinstance(value, list) else [value]:
                if isinstance(verdict, Verdict) and verdict.stops:
                    raise Stopped(
                        f"check {verdict.check!r} stopped the run at step {node.name!r}: {verdict.reason}",
                        f"see `tidemill runs show {self._recorder.run.id[:13]}`",
                    )


def _output_hint(node: Node, output: str) -> Any:
    hint = node.step.hints.get("return", Any)
    if len(node.step.outputs) > 1 and get_origin(hint) is tuple:
        return get_args(hint)[node.step.outputs.index(output)]
    return hint


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
