"""Runs one task in this process: reads the arguments, calls the function of the step, writes the artifacts."""

import os
import signal
import threading
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta
from typing import Any, get_args, get_type_hints

from msgspec.structs import replace

from tidemill.blobs.artifacts import read_artifact, write_artifact
from tidemill.core.artifact import Artifact
from tidemill.core.check import Verdict
from tidemill.core.context import Context
from tidemill.core.run import Metrics
from tidemill.credentials import hide_secrets
from tidemill.errors import Corrupt, NotFound, TidemillError, Transient
from tidemill.faults import maybe_crash
from tidemill.flow.capture import Log, captured, escape_surrogates
from tidemill.flow.own import NotCopied, copy_value, is_cheap
from tidemill.flow.session import Session, is_resource
from tidemill.flow.tasks import (
    Argument,
    ConstantValue,
    ListValue,
    StoredValue,
    Task,
    TaskFailure,
    TaskOutcome,
    TransientValue,
    assign_verdict_ids,
    describe_exception,
    iterate_instances,
    retry_delay,
)
from tidemill.host.programs import end_programs_on_error

_RETRYABLE = (Transient, ConnectionError, TimeoutError)
_SELF_DESCRIBING = (bool, int, float, str, bytes, type(None))
_PLAIN = (bool, int, float, str, bytes, list, dict)
_CACHED_VALUES = 64
_REPEAT_SECONDS = 1.0


class Performer:
    """Runs tasks with the resources of a session; keeps the last values in memory for the next tasks."""

    def __init__(self, session: Session, capture: Callable[[], AbstractContextManager[Log]] = captured) -> None:
        self._session = session
        self._capture = capture
        self._blobs = session.workspace.blobs
        self._values: OrderedDict[str, Any] = OrderedDict()

    def perform(self, task: Task) -> TaskOutcome:
        """Run a task and return its outcome, which contains every error of the step except Ctrl-C."""
        transient: dict[str, TaskOutcome] = {}
        started = time.perf_counter()
        process = os.getpid()
        values: tuple[Any, ...] = ()
        artifacts: dict[str, Artifact] = {}
        failure: TaskFailure | None = None
        with self._capture() as log:
            try:
                arguments = self._arguments(task, transient)
                maybe_crash("arguments are loaded")
                started = time.perf_counter()
                with end_programs_on_error(), _deadline(task.timeout):
                    returned = task.step.function(**arguments)
                if self._session.observe is not None:
                    self._session.observe(task, arguments, returned)
                values = _check_results(task, returned)
                _exit_if_forked(process)
                maybe_crash("step has run")
                for output, value in zip(task.step.outputs, values, strict=True):
                    artifacts[output] = self._store(task, output, assign_verdict_ids(value, ()))
                    maybe_crash("output is stored")
            except (Exception, SystemExit, _Overdue) as raised:  # noqa: BLE001 - reported as the failure of the step
                _exit_if_forked(process)
                failure = _as_failure(raised)
        seconds = time.perf_counter() - started
        return TaskOutcome(
            seconds=seconds,
            artifacts=artifacts,
            verdicts=_collect_verdicts(task, values, artifacts) if failure is None else {},
            metrics=tuple(iterate_instances(values, Metrics)) if failure is None else (),
            log=_clean(log.text) + (failure.traceback if failure else ""),
            failure=failure,
            transient=transient,
        )

    def forget(self) -> None:
        """Drop all values from memory."""
        self._values.clear()

    def _arguments(self, task: Task, transient: dict[str, TaskOutcome]) -> dict[str, Any]:
        hints = task.step.hints
        arguments = {
            name: self._value(argument, hints.get(name, Any), transient) for name, argument in task.arguments.items()
        }
        for name, hint in hints.items():
            if name not in arguments and name != "return" and is_resource(hint):
                arguments[name] = task.context if hint is Context else self._session.resource(hint)
        return arguments

    def _value(self, argument: Argument, hint: Any, transient: dict[str, TaskOutcome]) -> Any:
        match argument:
            case ConstantValue(value):
                return copy_value(value)
            case ListValue(members):
                fields = getattr(hint, "_fields", None)
                if fields is not None:
                    hints = get_type_hints(hint)
                    pairs = zip(members, fields, strict=True)
                    return hint(*[self._value(member, hints[field], transient) for member, field in pairs])
                member_hint = (get_args(hint) or (Any,))[0]
                return [self._value(member, member_hint, transient) for member in members]
            case StoredValue(artifact, step, verdicts):
                return assign_verdict_ids(self._read(artifact, step, hint), verdicts)
            case TransientValue(task, output):
                return self._compute(task, output, transient)

    def _read(self, artifact: Artifact, step: str, hint: Any) -> Any:
        value = self._values.get(artifact.id)
        if value is not None and _fits(value, hint):
            self._values.move_to_end(artifact.id)
            return copy_value(value)
        try:
            value = read_artifact(self._blobs, artifact, hint)
        except (NotFound, Corrupt):
            raise
        except TidemillError as error:
            raise TidemillError(f"the output of step {step!r} cannot be read: {error.problem}", error.cure) from error
        self._remember(artifact, value)
        return value

    def _compute(self, task: Task, output: str, transient: dict[str, TaskOutcome]) -> Any:
        """Return the value of a transient step, computed once in this process."""
        name = task.transient[output]
        for attempt in range(task.step.retries + 1):
            if name in self._values:
                break
            outcome = self.perform(task)
            transient |= {**outcome.transient, task.node: outcome}
            if outcome.failure is None:
                continue
            if not outcome.failure.retryable or attempt == task.step.retries:
                raise _TransientStepFailed(task.node)
            self._session.clock.sleep(retry_delay(attempt + 1))
        try:
            return copy_value(self._values[name])
        except NotCopied:  # the next step that needs the value computes it again
            return self._values.pop(name)

    def _store(self, task: Task, output: str, value: Any) -> Artifact:
        """Write a value to the blobs, or keep it in memory under its name if the step is transient."""
        if task.transient:
            self._values[task.transient[output]] = value
            return Artifact(id=task.transient[output], kind="transient", size=0, transient=True)
        artifact = write_artifact(self._blobs, value)
        if isinstance(value, Metrics):
            artifact = replace(artifact, summary=artifact.summary | {"measures": True})
        if artifact.kind != "json":  # read from its bytes, a dict has its keys in order, and a whole number may be 1.0
            self._remember(artifact, value)
        return artifact

    def _remember(self, artifact: Artifact, value: Any) -> None:
        """Keep a copy of a value in memory if that is cheaper than reading the value again."""
        if is_cheap(value):
            with suppress(NotCopied):
                self._values[artifact.id] = copy_value(value)
            while len(self._values) > _CACHED_VALUES:
                self._values.popitem(last=False)


def _check_results(task: Task, returned: Any) -> tuple[Any, ...]:
    """Return the values that a step returned; raise if they do not match its return annotation."""
    promised = task.step.outputs
    if len(promised) == 1:
        return (_check_type(returned, task.step.hints.get("return", Any)),)
    if not isinstance(returned, tuple) or len(returned) != len(promised):
        count = len(returned) if isinstance(returned, tuple) else 1
        raise TidemillError(
            f"it returned {count} values, but its annotation promises {len(promised)}",
            "change the annotation or the return statement",
        )
    return returned


def _check_type(returned: Any, hint: Any) -> Any:
    """Return the value; raise if it is plain data of another type than the annotation promises."""
    allowed = (int, float) if hint is float else hint
    if hint in _PLAIN and type(returned) in _PLAIN and not isinstance(returned, allowed):
        raise TidemillError(
            f"it returned {returned!r:.60}, but its annotation promises {hint.__name__}",
            "change the annotation or the return statement",
        )
    return returned


def _collect_verdicts(
    task: Task, values: tuple[Any, ...], artifacts: dict[str, Artifact]
) -> dict[str, tuple[Verdict, ...]]:
    """Return the verdicts in each output of a step, in their order."""
    by_output = {
        output: tuple(_add_digests(verdict, artifacts) for verdict in iterate_instances((value,), Verdict))
        for output, value in zip(task.step.outputs, values, strict=True)
    }
    return {output: verdicts for output, verdicts in by_output.items() if verdicts}


def _add_digests(verdict: Verdict, artifacts: dict[str, Artifact]) -> Verdict:
    """Return the verdict with the digests of the outputs of its own step that its evidence names."""
    links = {
        name: link | {"digest": artifacts[link["output"]].digest}
        for name, link in verdict.evidence.items()
        if isinstance(link, dict) and link.get("output") in artifacts
    }
    return replace(verdict, evidence=verdict.evidence | links) if links else verdict


class _TransientStepFailed(TidemillError):
    """A transient step before this step failed; its own outcome has the reason."""

    def __init__(self, node: str) -> None:
        super().__init__(f"step {node!r}, whose output it uses, failed", f"fix step {node!r}")


def _as_failure(raised: BaseException) -> TaskFailure:
    if isinstance(raised, _Overdue):
        raised = raised.error
    return TaskFailure(
        text=_clean(raised.problem if isinstance(raised, TidemillError) else describe_exception(raised)),
        traceback=_clean(traceback.format_exc()),
        error=_hide_in_error(raised) if isinstance(raised, TidemillError) else None,
        retryable=isinstance(raised, _RETRYABLE),
        raised=raised,
    )


def _clean(text: str) -> str:
    """Return a text that can be stored: without secrets, and without characters that UTF-8 does not have."""
    return escape_surrogates(hide_secrets(text))


def _hide_in_error(error: TidemillError) -> TidemillError:
    error.problem, error.cure = hide_secrets(error.problem), hide_secrets(error.cure)
    return error


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a value equals the value that would be read from its bytes for this type hint.

    Without a hint, dates and structs are read as the plain data in which they are stored.
    """
    if hint is Any or hint is object:
        return type(value) in _SELF_DESCRIBING or type(value).__module__.startswith("polars")
    try:
        return type(value) is hint or (isinstance(value, hint) and not isinstance(value, bool))
    except TypeError:
        return False


def _exit_if_forked(process: int) -> None:
    """Exit in a child process that the step forked: it must not continue the run of its parent."""
    if os.getpid() != process:
        os._exit(0)


class _Overdue(BaseException):
    """The timeout of a step: not an `Exception`, so that `except Exception` in the step does not catch it."""

    def __init__(self, error: TidemillError) -> None:
        super().__init__(str(error))
        self.error = error


@contextmanager
def _deadline(timeout: timedelta | None) -> Iterator[None]:
    """Raise in the block at the timeout, and again every second; works only in the main thread.

    Raises
    ------
    TidemillError
        If the timeout passed, even if the block caught the exception.
    """
    if timeout is None or threading.current_thread() is not threading.main_thread():
        yield
        return
    error = TidemillError(f"it exceeded its timeout of {timeout}", "increase the timeout, or fix the code that hangs")
    late = False

    def raise_timeout(*_: object) -> None:
        nonlocal late
        late = True
        raise _Overdue(error)

    before: Callable[..., Any] | int | None = signal.signal(signal.SIGALRM, raise_timeout)
    signal.setitimer(signal.ITIMER_REAL, timeout.total_seconds(), _REPEAT_SECONDS)
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
