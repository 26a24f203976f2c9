"""Performs one task in this process: arguments in, the step's function, artifacts out."""

import os
import signal
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from typing import Any, get_args

from msgspec.structs import replace

from tidemill.blobs.artifacts import read_artifact, write_artifact
from tidemill.core.artifact import Artifact
from tidemill.core.check import Verdict
from tidemill.core.context import Context
from tidemill.core.run import Metrics
from tidemill.errors import Corrupt, NotFound, TidemillError, Transient
from tidemill.faults import reached
from tidemill.flow.capture import Log, captured, escape_surrogates
from tidemill.flow.own import NotCopied, is_cheap, own
from tidemill.flow.session import Session, is_resource
from tidemill.flow.tasks import (
    Argument,
    Failure,
    Kept,
    Made,
    Outcome,
    Plain,
    Several,
    Task,
    of_kind,
    pause,
    told,
    with_ids,
)

_AGAIN = (Transient, ConnectionError, TimeoutError)
_SELF_DESCRIBING = (bool, int, float, str, bytes, type(None))
_PLAIN = (bool, int, float, str, bytes, list, dict)
_REMEMBERED = 64
_INSISTS = 1.0  # seconds


class Performer:
    """Performs tasks with the resources of a session; what cannot change stays in memory for the next one."""

    def __init__(self, session: Session, capture: Callable[[], AbstractContextManager[Log]] = captured) -> None:
        self._session = session
        self._capture = capture
        self._blobs = session.workspace.blobs
        self._values: OrderedDict[str, Any] = OrderedDict()

    def perform(self, task: Task) -> Outcome:
        """What becomes of a task; all that its step raises, but Ctrl-C, is in the outcome."""
        made: dict[str, Outcome] = {}
        began = time.perf_counter()
        process = os.getpid()
        values: tuple[Any, ...] = ()
        artifacts: dict[str, Artifact] = {}
        failure: Failure | None = None
        with self._capture() as log:
            try:
                arguments = self._arguments(task, made)
                reached("arguments are here")
                began = time.perf_counter()
                with _deadline(task.timeout):
                    values = _results(task, task.step.function(**arguments))
                _leave_if_forked(process)
                reached("step has run")
                for output, value in zip(task.step.outputs, values, strict=True):
                    artifacts[output] = self._keep(task, output, with_ids(value, ()))
                    reached("output is kept")
            except (Exception, SystemExit, _Overdue) as raised:  # noqa: BLE001 - told as the failure of the step
                _leave_if_forked(process)
                failure = _failure(raised)
        seconds = time.perf_counter() - began
        return Outcome(
            seconds=seconds,
            artifacts=artifacts,
            verdicts=_verdicts(task, values, artifacts) if failure is None else {},
            metrics=tuple(of_kind(values, Metrics)) if failure is None else (),
            log=escape_surrogates(log.text) + (failure.traceback if failure else ""),
            failure=failure,
            made=made,
        )

    def forget(self) -> None:
        """Let go of all values."""
        self._values.clear()

    def _arguments(self, task: Task, made: dict[str, Outcome]) -> dict[str, Any]:
        hints = task.step.hints
        found = {name: self._value(one, hints.get(name, Any), made) for name, one in task.arguments.items()}
        for name, hint in hints.items():
            if name not in found and name != "return" and is_resource(hint):
                found[name] = task.context if hint is Context else self._session.resource(hint)
        return found

    def _value(self, argument: Argument, hint: Any, made: dict[str, Outcome]) -> Any:
        match argument:
            case Plain(value):
                return own(value)
            case Several(members):
                member = (get_args(hint) or (Any,))[0]
                return [self._value(one, member, made) for one in members]
            case Kept(artifact, step, verdicts):
                return with_ids(self._read(artifact, step, hint), verdicts)
            case Made(task, output):
                return self._make(task, output, made)

    def _read(self, artifact: Artifact, step: str, hint: Any) -> Any:
        value = self._values.get(artifact.id)
        if value is not None and _fits(value, hint):
            self._values.move_to_end(artifact.id)
            return own(value)
        try:
            value = read_artifact(self._blobs, artifact, hint)
        except (NotFound, Corrupt):
            raise
        except TidemillError as unreadable:
            said = f"what step {step!r} gave cannot be taken: {unreadable.problem}"
            raise TidemillError(said, unreadable.cure) from unreadable
        self._remember(artifact, value)
        return value

    def _make(self, task: Task, output: str, made: dict[str, Outcome]) -> Any:
        """The value of a transient step, made once in this process."""
        name = task.transient[output]
        for attempt in range(task.step.retries + 1):
            if name in self._values:
                break
            outcome = self.perform(task)
            made |= {**outcome.made, task.node: outcome}
            if outcome.failure is None:
                continue
            if not outcome.failure.again or attempt == task.step.retries:
                raise _NotMade(task.node)
            self._session.clock.sleep(pause(attempt + 1))
        try:
            return own(self._values[name])
        except NotCopied:  # it is made again for whoever needs it next
            return self._values.pop(name)

    def _keep(self, task: Task, output: str, value: Any) -> Artifact:
        """Write a value to the blobs, or only name it where the step is transient."""
        if task.transient:
            self._values[task.transient[output]] = value
            return Artifact(id=task.transient[output], kind="transient", size=0, transient=True)
        artifact = write_artifact(self._blobs, value)
        if isinstance(value, Metrics):
            artifact = replace(artifact, summary=artifact.summary | {"measures": True})
        self._remember(artifact, value)
        return artifact

    def _remember(self, artifact: Artifact, value: Any) -> None:
        """Keep a value in memory where that is cheaper than reading it again: a copy, as its step may keep it, too."""
        if is_cheap(value):
            with suppress(NotCopied):
                self._values[artifact.id] = own(value)
            while len(self._values) > _REMEMBERED:
                self._values.popitem(last=False)


def _results(task: Task, given: Any) -> tuple[Any, ...]:
    """What a step returned, as the values that its annotation promises."""
    promised = task.step.outputs
    if len(promised) == 1:
        return (_as_promised(given, task.step.hints.get("return", Any)),)
    if not isinstance(given, tuple) or len(given) != len(promised):
        count = len(given) if isinstance(given, tuple) else 1
        raise TidemillError(
            f"it returned {count} values, but its annotation promises {len(promised)}", "make them agree"
        )
    return given


def _as_promised(given: Any, hint: Any) -> Any:
    """What a step returned; plain data of another type than its annotation promises would be found much later."""
    if hint in _PLAIN and type(given) in _PLAIN and not isinstance(given, (int, float) if hint is float else hint):
        raise TidemillError(
            f"it returned {given!r:.60}, but its annotation promises {hint.__name__}", "make them agree"
        )
    return given


def _verdicts(task: Task, values: tuple[Any, ...], artifacts: dict[str, Artifact]) -> dict[str, tuple[Verdict, ...]]:
    """The verdicts in each output of a step, in their order."""
    found = {
        output: tuple(_linked(one, artifacts) for one in of_kind((value,), Verdict))
        for output, value in zip(task.step.outputs, values, strict=True)
    }
    return {output: verdicts for output, verdicts in found.items() if verdicts}


def _linked(verdict: Verdict, artifacts: dict[str, Artifact]) -> Verdict:
    """A verdict whose evidence names outputs of its own step, with their digests."""
    links = {
        name: link | {"digest": artifacts[link["output"]].digest}
        for name, link in verdict.evidence.items()
        if isinstance(link, dict) and link.get("output") in artifacts
    }
    return replace(verdict, evidence=verdict.evidence | links) if links else verdict


class _NotMade(TidemillError):
    """A transient step that was needed could not be made; its own outcome says why."""

    def __init__(self, node: str) -> None:
        super().__init__(f"step {node!r}, whose value it takes, failed", "mend that one")


def _failure(raised: BaseException) -> Failure:
    if isinstance(raised, _Overdue):
        raised = raised.error
    return Failure(
        text=escape_surrogates(raised.problem if isinstance(raised, TidemillError) else told(raised)),
        traceback=escape_surrogates(traceback.format_exc()),
        error=raised if isinstance(raised, TidemillError) else None,
        again=isinstance(raised, _AGAIN),
        raised=raised,
    )


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value is what a parameter takes: the value that would be read from the same bytes.

    Without a hint dates, structs and the like are read as the plain data that they are kept as.
    """
    if hint is Any or hint is object:
        return type(value) in _SELF_DESCRIBING or type(value).__module__.startswith("polars")
    try:
        return type(value) is hint or (isinstance(value, hint) and not isinstance(value, bool))
    except TypeError:
        return False


def _leave_if_forked(process: int) -> None:
    """A child that the step forked, and that came out of it, must not go on with its parent's run."""
    if os.getpid() != process:
        os._exit(0)


class _Overdue(BaseException):
    """The time of a step is over: no `except Exception` of the step is to take it for a mishap of its own."""

    def __init__(self, error: TidemillError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def _deadline(timeout: timedelta | None) -> Iterator[None]:
    """Raise in the block when the time is over, again and again; in a thread that is not the main one nobody can.

    Raises
    ------
    TidemillError
        where the time was over, whatever the block made of it.
    """
    if timeout is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    error = TidemillError(f"it took longer than its timeout of {timeout}", "raise the timeout, or mend what hangs")
    late = False

    def over(*_: object) -> None:
        nonlocal late
        late = True
        raise _Overdue(error)

    before: Callable[..., Any] | int | None = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, timeout.total_seconds(), _INSISTS)
    try:
        yield
    except (Exception, _Overdue) as raised:
        if late:
            raise error from raised
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    if late:
        raise error
